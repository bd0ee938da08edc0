#include "worker/nn/hstu/content_encoder.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/nn/mlp.h"

namespace anneal::nn::hstu {
namespace {

class Slice : public ContentEncoder {
 public:
  explicit Slice(int64_t width) : ContentEncoder(width) {}
  Content Forward(const at::Tensor& history, const at::Tensor& candidates) override {
    return {history, candidates.narrow(1, 0, width())};
  }
};

class Pad : public ContentEncoder {
 public:
  Pad(int64_t history_width, int64_t candidate_width)
      : ContentEncoder(candidate_width),
        missing_(RegisterParameter("_target_enrich_dummy_embeddings",
                                   at::randn({1, candidate_width - history_width}) * 0.1)) {}
  Content Forward(const at::Tensor& history, const at::Tensor& candidates) override {
    return {at::cat({history, at::zeros_like(history.narrow(1, 0, 1)) + missing_}, 1), candidates};
  }

 private:
  const at::Tensor missing_;
};

class Mlps : public ContentEncoder {
 public:
  Mlps(const tzrec::protos::GRMLPContentEncoder& config, int64_t history_width, int64_t candidate_width)
      : ContentEncoder(*config.uih_mlp().hidden_units().rbegin()),
        history_(history_width, config.uih_mlp()),
        candidates_(candidate_width, config.target_mlp()) {
    RegisterModule("uih_mlp", history_);
    RegisterModule("target_mlp", candidates_);
  }
  Content Forward(const at::Tensor& history, const at::Tensor& candidates) override {
    return {history_.Forward(history), candidates_.Forward(candidates)};
  }

 private:
  Mlp history_, candidates_;
};

void Require(bool good, const char* encoder, const char* relation, int64_t history_width, int64_t candidate_width) {
  if (good) return;
  throw ConfigError(std::string(encoder) + ": candidates have " + std::to_string(candidate_width) +
                    " columns, which have to be " + relation + " the history's, " + std::to_string(history_width));
}

}  // namespace

std::unique_ptr<ContentEncoder> MakeContentEncoder(const tzrec::protos::GRContentEncoder& config, int64_t history_width,
                                                   int64_t candidate_width) {
  if (config.has_mlp_content_encoder())
    return std::make_unique<Mlps>(config.mlp_content_encoder(), history_width, candidate_width);
  if (config.has_pad_content_encoder()) {
    Require(candidate_width > history_width, "pad_content_encoder", "more than", history_width, candidate_width);
    return std::make_unique<Pad>(history_width, candidate_width);
  }
  Require(candidate_width >= history_width, "slice_content_encoder", "at least", history_width, candidate_width);
  return std::make_unique<Slice>(history_width);
}

}  // namespace anneal::nn::hstu
