#include "worker/nn/variational_dropout.h"

#include <ATen/ATen.h>

#include <limits>

namespace anneal::nn {
namespace {

constexpr double kTemperature = 0.1;

at::Tensor Logit(const at::Tensor& p) {
  constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
  return (p + kEpsilon).log() - (1 - p + kEpsilon).log();
}

}  // namespace

VariationalDropout::VariationalDropout(const std::vector<int64_t>& widths)
    : feature_p_(RegisterParameter("feature_p", at::randn({static_cast<int64_t>(widths.size())}))) {
  const at::Tensor repeats = RegisterBuffer("feature_dim_repeat", at::tensor(widths, at::kLong));
  feature_of_column_ = at::repeat_interleave(repeats);
}

at::Tensor VariationalDropout::Forward(const at::Tensor& x) const {
  if (training()) return Drop(x, at::rand({x.size(0), feature_p_.size(0)}, feature_p_.options()));
  return x * PerColumn(1 - at::sigmoid(feature_p_));
}

at::Tensor VariationalDropout::Drop(const at::Tensor& x, const at::Tensor& noise) const {
  const at::Tensor logits = Logit(at::sigmoid(feature_p_)) + Logit(noise);
  return x * PerColumn(1 - at::sigmoid(logits / kTemperature));
}

at::Tensor VariationalDropout::Penalty(double lambda, int64_t rows) const {
  return (1 - at::sigmoid(feature_p_)).sum() * (lambda / static_cast<double>(rows));
}

at::Tensor VariationalDropout::PerColumn(const at::Tensor& factor) const {
  if (feature_of_column_.device() != factor.device()) feature_of_column_ = feature_of_column_.to(factor.device());
  return factor.index_select(-1, feature_of_column_);
}

}  // namespace anneal::nn
