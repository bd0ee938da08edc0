// Layers that make a vector of a dense feature's numbers (parity/models.md 3).
#pragma once

#include <vector>

#include "worker/nn/module.h"

namespace anneal::nn {

/// Of features side by side: x [B, features * value_dim] -> [B, features * dim].
class DenseEmbedding : public Module {
 public:
  virtual at::Tensor Forward(const at::Tensor& x) const = 0;
  /// What of a parameter is the i-th feature's, [...]; shares the parameter's memory.
  virtual at::Tensor PartOf(const at::Tensor& parameter, int64_t feature) const;
};

/// Guo et al., "An Embedding Learning Framework for Numerical Features in CTR Prediction" (AutoDis), KDD 2021. Of a
/// number x: h = LeakyReLU(x w), a = softmax((M h + keep_prob h) / temperature), then the sum of a_c E_c.
/// State names: meta_emb E [features, channels, dim], proj_w w [features, channels], proj_m M [features, channels,
/// channels].
class AutoDis : public DenseEmbedding {
 public:
  AutoDis(int64_t features, int64_t channels, int64_t dim, double keep_prob, double temperature);
  at::Tensor Forward(const at::Tensor& x) const override;

 private:
  const double keep_prob_, temperature_;
  at::Tensor meta_emb_, proj_w_, proj_m_;
};

/// x w without bias. State name: proj_w w [features, dim].
class NumberProjection : public DenseEmbedding {
 public:
  NumberProjection(int64_t features, int64_t dim);
  at::Tensor Forward(const at::Tensor& x) const override;

 private:
  at::Tensor proj_w_;
};

/// Of one feature of several numbers x W without bias. State name: proj_w W [value_dim, dim].
class NumbersProjection : public DenseEmbedding {
 public:
  NumbersProjection(int64_t value_dim, int64_t dim);
  at::Tensor Forward(const at::Tensor& x) const override;
  at::Tensor PartOf(const at::Tensor& parameter, int64_t feature) const override;

 private:
  at::Tensor proj_w_;
};

}  // namespace anneal::nn
