// History and candidates as vectors of one width (parity/models.md 14.2).
#pragma once

#include <memory>

#include "tzrec/module.pb.h"
#include "worker/nn/module.h"

namespace anneal::nn::hstu {

/// Rows of the history and of the candidates, of the same width.
struct Content {
  at::Tensor history, candidates;
};

class ContentEncoder : public Module {
 public:
  virtual Content Forward(const at::Tensor& history, const at::Tensor& candidates) = 0;
  int64_t width() const { return width_; }

 protected:
  explicit ContentEncoder(int64_t width) : width_(width) {}

 private:
  const int64_t width_;
};

/// slice: candidates are cut to the history's width. pad: the history is widened to the candidates' by a learned vector
/// (_target_enrich_dummy_embeddings). mlp: an MLP of each, uih_mlp and target_mlp. Throws ConfigError for widths that
/// do not fit.
std::unique_ptr<ContentEncoder> MakeContentEncoder(const tzrec::protos::GRContentEncoder& config, int64_t history_width,
                                                   int64_t candidate_width);

}  // namespace anneal::nn::hstu
