#include "worker/nn/self_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "worker/nn/masked_attention.h"

namespace anneal::nn {

SelfAttention::SelfAttention(int64_t sequence_width, const tzrec::protos::SelfAttentionEncoder& config)
    : width_(config.multihead_attn_dim()),
      heads_(config.num_heads()),
      max_length_(config.max_seq_length()),
      dropout_(config.dropout()),
      query_(sequence_width, width_),
      key_(sequence_width, width_),
      value_(sequence_width, width_),
      out_(width_, width_) {
  RegisterModule("_query", query_);
  RegisterModule("_key", key_);
  RegisterModule("_value", value_);
  const double bound = std::sqrt(6.0 / static_cast<double>(4 * width_));  // xavier_uniform_
  in_weight_ = RegisterParameter("_multihead_attn.in_proj_weight",
                                 at::empty({3 * width_, width_}, at::kFloat).uniform_(-bound, bound));
  in_bias_ = RegisterParameter("_multihead_attn.in_proj_bias", at::zeros({3 * width_}));
  RegisterModule("_multihead_attn.out_proj", out_);
  out_.ZeroBias();
}

at::Tensor SelfAttention::Forward(const Sequence& input) {
  const Sequence seen = Truncate(input, max_length_);
  const at::Tensor rows = seen.sequence.flatten(0, 1);
  const at::Tensor mask = seen.mask.unsqueeze(2), shape = mask.expand({-1, -1, width_});  // [B, T, width]
  // -> [B, heads, T, width of a head]
  const auto heads = [&](const Linear& outer, int64_t part) {
    const at::Tensor weight = in_weight_.slice(0, part * width_, (part + 1) * width_);
    const at::Tensor bias = in_bias_.slice(0, part * width_, (part + 1) * width_);
    const at::Tensor projected = at::linear(outer.Forward(rows), weight, bias);
    return projected.view_as(shape).unflatten(2, {heads_, width_ / heads_}).transpose(1, 2);
  };
  const at::Tensor q = heads(query_, 0) * std::sqrt(static_cast<double>(heads_) / static_cast<double>(width_));
  const at::Tensor k = heads(key_, 1), v = heads(value_, 2);
  at::Tensor weights = MaskedSoftmax(at::matmul(q, k.transpose(2, 3)), seen.mask.unsqueeze(1).unsqueeze(2));
  if (dropout_ > 0 && training()) weights = at::dropout(weights, dropout_, true);
  const at::Tensor attended = at::matmul(weights, v).transpose(1, 2).flatten(2).flatten(0, 1);
  const at::Tensor outputs = out_.Forward(attended).view_as(shape).masked_fill(mask.logical_not(), 0);
  return outputs.sum(1) / input.length.clamp_min(1).unsqueeze(1);
}

}  // namespace anneal::nn
