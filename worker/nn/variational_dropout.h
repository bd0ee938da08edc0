// Features that learn how much of them is dropped. Chang et al., "Dropout Feature Ranking for Deep Learning Models",
// 2017; parity/models.md 4.6.
#pragma once

#include <vector>

#include "worker/nn/module.h"

namespace anneal::nn {

/// A group of n features side by side, x [B, sum of widths], p = sigmoid(feature_p). In training a feature's columns
/// are multiplied by 1 - z, z = sigmoid((logit(p) + logit(u)) / 0.1) with u uniform for each row and feature, otherwise
/// by 1 - p. State names: feature_p [n], feature_dim_repeat [n] int64, the widths.
class VariationalDropout : public Module {
 public:
  explicit VariationalDropout(const std::vector<int64_t>& widths);

  at::Tensor Forward(const at::Tensor& x) const;
  /// As in training, with that noise u [B, n] in [0, 1].
  at::Tensor Drop(const at::Tensor& x, const at::Tensor& noise) const;
  /// lambda / rows * sum(1 - p): what features cost that are kept.
  at::Tensor Penalty(double lambda, int64_t rows) const;

 private:
  /// factor [.., n] -> [.., sum of widths]
  at::Tensor PerColumn(const at::Tensor& factor) const;

  at::Tensor feature_p_;
  mutable at::Tensor feature_of_column_;  ///< [sum of widths] int64, where it was used last
};

}  // namespace anneal::nn
