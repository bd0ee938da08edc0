// A sequential transducer for ranking (Zhai et al., ICML 2024; parity/models.md 14): what a candidate means to a user,
// from context, history and the candidate.
#pragma once

#include <memory>

#include "worker/nn/hstu/input_preprocessor.h"
#include "worker/nn/hstu/output_postprocessor.h"
#include "worker/nn/hstu/positional_encoder.h"
#include "worker/nn/hstu/stu.h"

namespace anneal::nn::hstu {

/// Preprocessor, positional encoder, dropout, STU layers, and the postprocessor on the candidates' tokens.
class Transducer : public Module {
 public:
  /// `max_seq_len`: the model's. Throws ConfigError for widths that do not fit.
  Transducer(const tzrec::protos::HSTU& config, const RankingWidths& widths, int64_t max_seq_len);

  at::Tensor Forward(const RankingInput& input);  ///< [sum of candidate_length, width()]
  int64_t width() const { return width_; }

  /// What of the input is read.
  bool reads_actions() const { return preprocessor_.reads_actions(); }
  bool reads_watch_times() const { return preprocessor_.reads_watch_times(); }
  bool reads_times() const { return times_ || postprocessor_->reads_times(); }

 private:
  at::Tensor Candidates(const at::Tensor& x, const TokenLayout& layout, const at::Tensor& count) const;

  const int64_t width_;
  const double dropout_;
  const bool times_;  ///< the positional encoder reads times
  InputPreprocessor preprocessor_;
  PositionalEncoder positional_encoder_;
  StuStack layers_;
  std::unique_ptr<OutputPostprocessor> postprocessor_;
};

}  // namespace anneal::nn::hstu
