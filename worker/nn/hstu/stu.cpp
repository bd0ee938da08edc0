#include "worker/nn/hstu/stu.h"

#include <ATen/ATen.h>

#include <cmath>

#include "worker/nn/hstu/xavier.h"

namespace anneal::nn::hstu {
namespace {

constexpr double kEpsilon = 1e-6;

AttentionShape ShapeOf(const tzrec::protos::STU& config, const StuSettings& settings) {
  AttentionShape shape;
  shape.heads = config.num_heads();
  shape.value_width = config.hidden_dim();
  shape.query_width = config.attention_dim();
  shape.alpha =
      config.attn_alpha() != 0 ? config.attn_alpha() : 1 / std::sqrt(static_cast<double>(config.attention_dim()));
  shape.divisor = static_cast<double>(config.scaling_seqlen() >= 0 ? config.scaling_seqlen() : settings.max_seq_len);
  shape.visibility = {config.contextual_seq_len() >= 0 ? config.contextual_seq_len() : settings.contextual,
                      config.max_attn_len(), config.sla_k1(), config.sla_k2()};
  return shape;
}

/// The tokens of x that stay when the history is cut to its last `tail`.
at::Tensor CutHistory(const at::Tensor& x, int64_t tail, TokenLayout& layout) {
  const TokenLayout cut(layout.contextual, layout.history.clamp_max(tail), layout.candidates);
  const at::Tensor gone = cut.PerToken(layout.history - cut.history);
  const at::Tensor skipped = at::where(cut.position < layout.contextual, at::zeros_like(gone), gone);
  const at::Tensor index = cut.PerToken(layout.first) + cut.position + skipped;
  layout = cut;
  return TakeRows(x, index);
}

}  // namespace

StuLayer::StuLayer(const tzrec::protos::STU& config, const StuSettings& settings)
    : group_norm_(config.use_group_norm()),
      dropout_(config.output_dropout_ratio()),
      attention_(ShapeOf(config, settings)) {
  const int64_t width = config.embedding_dim(), values = attention_.heads * attention_.value_width;
  const int64_t projected = 2 * attention_.heads * (attention_.value_width + attention_.query_width);
  uvqk_weight_ = RegisterParameter("_uvqk_weight", Xavier(width, projected));
  uvqk_beta_ = RegisterParameter("_uvqk_beta", at::zeros({projected}));
  input_norm_weight_ = RegisterParameter("_input_norm_weight", at::ones({width}));
  input_norm_bias_ = RegisterParameter("_input_norm_bias", at::zeros({width}));
  output_weight_ = RegisterParameter("_output_weight", Xavier(3 * values, width));
  const int64_t normed = group_norm_ ? attention_.heads : values;
  output_norm_weight_ = RegisterParameter("_output_norm_weight", at::ones({normed}));
  output_norm_bias_ = RegisterParameter("_output_norm_bias", at::zeros({normed}));
}

at::Tensor StuLayer::Norm(const at::Tensor& attended) const {
  if (!group_norm_)
    return at::layer_norm(attended, {attended.size(1)}, output_norm_weight_, output_norm_bias_, kEpsilon, false);
  const at::Tensor heads = attended.unflatten(1, {attention_.heads, attention_.value_width});
  const at::Tensor normed = at::layer_norm(heads, {attention_.value_width}, {}, {}, kEpsilon, false);
  return (normed * output_norm_weight_.unsqueeze(1) + output_norm_bias_.unsqueeze(1)).flatten(1);
}

at::Tensor StuLayer::Forward(const at::Tensor& x, const TokenLayout& layout) {
  const at::Tensor normed = at::layer_norm(x, {x.size(1)}, input_norm_weight_, input_norm_bias_, kEpsilon, false);
  const int64_t values = attention_.heads * attention_.value_width;
  const auto parts = at::addmm(uvqk_beta_, normed, uvqk_weight_)
                         .split_with_sizes({values, values + 2 * attention_.heads * attention_.query_width}, 1);
  const at::Tensor u = at::silu(parts[0]);
  const at::Tensor attended = Attend(parts[1], layout, attention_);
  const at::Tensor gated = at::cat({u, attended, u * Norm(attended)}, 1);
  return at::addmm(x, at::dropout(gated, dropout_, training()), output_weight_);
}

StuStack::StuStack(const tzrec::protos::HSTU& config, const StuSettings& settings)
    : split_(config.attn_truncation_split_layer()), tail_(config.attn_truncation_tail_len()) {
  for (size_t i = 0; i < config.attn_num_layers(); ++i) {
    layers_.push_back(std::make_unique<StuLayer>(config.stu(), settings));
    RegisterModule("_stu_layers." + std::to_string(i), *layers_.back());
  }
}

at::Tensor StuStack::Forward(at::Tensor x, TokenLayout& layout) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (split_ > 0 && i == split_) x = CutHistory(x, tail_, layout);
    x = layers_[i]->Forward(x, layout);
  }
  return x;
}

}  // namespace anneal::nn::hstu
