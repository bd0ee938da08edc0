#include "worker/nn/dense_embedding.h"

#include <ATen/ATen.h>

#include <cmath>

namespace anneal::nn {
namespace {

constexpr double kLeakySlope = 0.01;

/// N(0, sqrt(gain / fan)).
at::Tensor Normal(at::IntArrayRef shape, double gain, int64_t fan) {
  return at::randn(shape) * std::sqrt(gain / static_cast<double>(fan));
}

}  // namespace

at::Tensor DenseEmbedding::PartOf(const at::Tensor& parameter, int64_t feature) const {
  return parameter.select(0, feature);
}

AutoDis::AutoDis(int64_t features, int64_t channels, int64_t dim, double keep_prob, double temperature)
    : keep_prob_(keep_prob),
      temperature_(temperature),
      meta_emb_(RegisterParameter("meta_emb", at::randn({features, channels, dim}))),
      proj_w_(RegisterParameter("proj_w", Normal({features, channels}, 2, 1 + channels))),
      proj_m_(RegisterParameter("proj_m", Normal({features, channels, channels}, 1, channels))) {}

// Products of matrices, one for each feature.
at::Tensor AutoDis::Forward(const at::Tensor& x) const {
  const at::Tensor h = at::leaky_relu(x.t().unsqueeze(2) * proj_w_.unsqueeze(1), kLeakySlope);
  const at::Tensor mixed = at::bmm(h, proj_m_.transpose(1, 2)) + h * keep_prob_;
  const at::Tensor sums = at::bmm(at::softmax(mixed / temperature_, 2), meta_emb_);
  return sums.transpose(0, 1).reshape({-1, meta_emb_.size(0) * meta_emb_.size(2)});
}

NumberProjection::NumberProjection(int64_t features, int64_t dim)
    : proj_w_(RegisterParameter("proj_w", Normal({features, dim}, 2, 1 + dim))) {}

at::Tensor NumberProjection::Forward(const at::Tensor& x) const {
  return (x.unsqueeze(2) * proj_w_).reshape({-1, proj_w_.numel()});
}

NumbersProjection::NumbersProjection(int64_t value_dim, int64_t dim)
    : proj_w_(RegisterParameter("proj_w", Normal({value_dim, dim}, 2, value_dim + dim))) {}

at::Tensor NumbersProjection::Forward(const at::Tensor& x) const { return at::mm(x, proj_w_); }

at::Tensor NumbersProjection::PartOf(const at::Tensor& parameter, int64_t) const { return parameter; }

}  // namespace anneal::nn
