#include "worker/nn/capsule.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <limits>

#include "worker/nn/unit_length.h"

namespace anneal::nn {

CapsuleLayer::CapsuleLayer(int64_t in, const tzrec::protos::B2ICapsule& config)
    : config_(config),
      bilinear_(RegisterParameter("bilinear_matrix", at::randn({in, config.high_dim()}))),
      drawn_(at::randn({config.max_seq_len(), config.max_k()}, at::detail::createCPUGenerator())) {}

CapsuleLayer::Output CapsuleLayer::Forward(const Sequence& history) {
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  const at::Tensor wanted = history.length.to(at::kFloat).log2().clamp(1, config_.max_k());
  const at::Tensor active = at::arange(config_.max_k(), wanted.options()).unsqueeze(0) < wanted.unsqueeze(1);
  Output output{{}, config_.const_caps_num() ? at::ones_like(active) : active};
  const at::Tensor inactive = output.active.logical_not().unsqueeze(2), mask = history.mask.unsqueeze(1);
  const at::Tensor positions = at::matmul(history.sequence, bilinear_);  // [B, T, high]
  const at::Tensor still = positions.detach();
  const at::Tensor directions = UnitLength(still);
  at::Tensor logits = FirstLogits(history);
  for (uint32_t i = 1;; ++i) {
    logits = logits.masked_fill(inactive, minus_infinity);
    const at::Tensor weights = at::softmax(logits * config_.routing_logits_scale(), 1) * mask;
    if (i >= config_.num_iters()) {
      output.capsules = Squash(at::matmul(weights, positions));
      return output;
    }
    logits = logits + at::matmul(at::matmul(weights, still), directions.transpose(1, 2));
  }
}

at::Tensor CapsuleLayer::FirstLogits(const Sequence& history) const {
  const at::Tensor zeros =
      at::zeros_like(history.mask, history.sequence.options()).unsqueeze(1).repeat({1, config_.max_k(), 1});
  if (config_.routing_init_method() == "zeros") return zeros;
  const double deviation = config_.routing_logits_stddev();
  if (training()) return at::randn_like(zeros) * deviation;
  // Of positions 0 .. T - 1, without a number that a trace would keep.
  const at::Tensor position = at::ones_like(history.mask.any(0), at::kLong).cumsum(0) - 1;
  return zeros + drawn_.to(zeros.device()).index_select(0, position).t() * deviation;
}

at::Tensor CapsuleLayer::Squash(const at::Tensor& capsules) const {
  const at::Tensor length = capsules.to(at::kFloat).norm(2, -1, /*keepdim=*/true).clamp_min(1e-7),
                   square = length * length;
  return (square / (1 + square)).pow(config_.squash_pow()) * capsules / length;
}

}  // namespace anneal::nn
