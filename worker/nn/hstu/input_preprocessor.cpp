#include "worker/nn/hstu/input_preprocessor.h"

#include <ATen/ATen.h>

#include <cmath>

namespace anneal::nn::hstu {
namespace {

/// Contextual tokens lie in a matrix of their own, [B * contextual, D]: which of it each token is.
at::Tensor ContextualIndex(const TokenLayout& layout) { return layout.row * layout.contextual + layout.position; }

}  // namespace

InputPreprocessor::InputPreprocessor(const tzrec::protos::GRInputPreprocessor& config, const RankingWidths& widths,
                                     int64_t out)
    : widths_(widths), interleaves_(config.has_contextual_interleave_preprocessor()) {
  const auto make = [&](const auto& kind) {
    if (kind.has_action_encoder()) {
      actions_ = std::make_unique<ActionEncoder>(kind.action_encoder().simple_action_encoder());
      RegisterModule("_action_encoder", *actions_);
      action_mlp_ = MakeContextualizedMlp(kind.action_mlp(), actions_->width(), out, widths.contextual());
      RegisterModule("_action_embedding_mlp", *action_mlp_);
    }
    content_ = MakeContentEncoder(kind.content_encoder(), widths.history, widths.candidates);
    RegisterModule("_content_encoder", *content_);
    content_mlp_ = MakeContextualizedMlp(kind.content_mlp(), content_->width(), out, widths.contextual());
    RegisterModule("_content_embedding_mlp", *content_mlp_);
  };
  if (interleaves_) {
    doubles_candidates_ = config.contextual_interleave_preprocessor().enable_interleaving();
    make(config.contextual_interleave_preprocessor());
  } else {
    make(config.contextual_preprocessor());
  }
  const double deviation = std::sqrt(2.0 / static_cast<double>(widths.slot + out));
  contextual_weight_ =
      RegisterParameter("_batched_contextual_linear_weights", at::randn({widths.slots, widths.slot, out}) * deviation);
  contextual_bias_ = RegisterParameter("_batched_contextual_linear_bias", at::zeros({widths.slots, 1, out}));
}

at::Tensor InputPreprocessor::ContextualTokens(const at::Tensor& contextual) const {
  const at::Tensor slots = contextual.unflatten(1, {widths_.slots, widths_.slot}).transpose(0, 1);
  return (at::matmul(slots, contextual_weight_) + contextual_bias_).transpose(0, 1).flatten(0, 1);
}

at::Tensor InputPreprocessor::Body(const RankingInput& input, const TokenLayout& elements) {
  const Content content = content_->Forward(input.history, input.candidates);
  const at::Tensor x =
      content_mlp_->Forward(JoinCandidates(elements, content.history, content.candidates), elements, input.contextual);
  if (!actions_) return x;
  const at::Tensor done = JoinCandidates(elements, actions_->Forward(input.actions, input.watch_times),
                                         actions_->OfCandidates(input.candidates));
  const at::Tensor actions = action_mlp_->Forward(done, elements, input.contextual);
  return interleaves_ ? at::stack({x, actions}, 1).flatten(0, 1) : x + actions;
}

Tokens InputPreprocessor::Forward(const RankingInput& input) {
  const TokenLayout elements(0, input.history_length, input.candidate_length);
  const int64_t of_element = interleaves_ ? 2 : 1;
  Tokens tokens{
      {},
      {},
      TokenLayout(widths_.slots, input.history_length * of_element, input.candidate_length * tokens_per_candidate())};
  const TokenLayout& layout = tokens.layout;
  const at::Tensor place = layout.position - layout.contextual, is_contextual = place < 0;
  at::Tensor of_body = layout.PerToken(elements.first) * of_element + place;
  // A candidate whose action is left out: behind it one place more.
  if (of_element > tokens_per_candidate()) of_body = of_body + (place - layout.PerToken(layout.history)).clamp_min(0);
  const at::Tensor contextual_tokens = at::ones_like(layout.length).sum() * layout.contextual;
  const at::Tensor index = at::where(is_contextual, ContextualIndex(layout), contextual_tokens + of_body);
  tokens.x = TakeRows(at::cat({ContextualTokens(input.contextual), Body(input, elements)}, 0), index);
  if (!input.history_times.defined()) return tokens;
  const at::Tensor times =
      JoinCandidates(elements, input.history_times.unsqueeze(1), input.candidate_times.unsqueeze(1)).squeeze(1);
  const at::Tensor element = at::div(of_body, of_element, "floor") + 1;
  tokens.times = at::cat({at::zeros({1}, times.options()), times}, 0)
                     .index_select(0, at::where(is_contextual, at::zeros_like(element), element));
  return tokens;
}

}  // namespace anneal::nn::hstu
