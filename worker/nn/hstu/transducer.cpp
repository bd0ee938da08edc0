#include "worker/nn/hstu/transducer.h"

#include <ATen/ATen.h>

namespace anneal::nn::hstu {

Transducer::Transducer(const tzrec::protos::HSTU& config, const RankingWidths& widths, int64_t max_seq_len)
    : width_(config.stu().embedding_dim()),
      dropout_(config.input_dropout_ratio()),
      times_(config.positional_encoder().use_time_encoding()),
      preprocessor_(config.input_preprocessor(), widths, width_),
      positional_encoder_(config.positional_encoder(), width_),
      layers_(config, {widths.slots, max_seq_len}),
      postprocessor_(MakeOutputPostprocessor(config.output_postprocessor(), width_)) {
  RegisterModule("_input_preprocessor", preprocessor_);
  RegisterModule("_positional_encoder", positional_encoder_);
  RegisterModule("_stu_module", layers_);
  RegisterModule("_output_postprocessor", *postprocessor_);
}

/// The first token of each candidate.
at::Tensor Transducer::Candidates(const at::Tensor& x, const TokenLayout& layout, const at::Tensor& count) const {
  const at::Tensor row = at::repeat_interleave(count);
  const at::Tensor number = CountUp(row) - Starts(count).index_select(0, row);
  const at::Tensor first = (layout.first + layout.before_candidates()).index_select(0, row);
  return TakeRows(x, first + number * preprocessor_.tokens_per_candidate());
}

at::Tensor Transducer::Forward(const RankingInput& input) {
  Tokens tokens = preprocessor_.Forward(input);
  at::Tensor x = positional_encoder_.Forward(tokens.x, tokens.times, tokens.layout);
  x = layers_.Forward(at::dropout(x, dropout_, training()), tokens.layout);
  return postprocessor_->Forward(Candidates(x, tokens.layout, input.candidate_length), input.candidate_times);
}

}  // namespace anneal::nn::hstu
