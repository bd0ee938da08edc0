// Batch and layer normalisation with torch.nn's state names and defaults.
#pragma once

#include "worker/nn/module.h"

namespace anneal::nn {

/// torch.nn.BatchNorm1d over [B, features]: eps 1e-5, momentum 0.1, running statistics as buffers; `affine`: with a
/// learned scale and shift.
class BatchNorm1d : public Module {
 public:
  explicit BatchNorm1d(int64_t features, bool affine = true);
  at::Tensor Forward(const at::Tensor& x);

 private:
  at::Tensor weight_, bias_, running_mean_, running_var_, num_batches_tracked_;
};

/// torch.nn.LayerNorm over the last axis: eps 1e-5.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(int64_t features);
  at::Tensor Forward(const at::Tensor& x) const;

 private:
  int64_t features_;
  at::Tensor weight_, bias_;
};

}  // namespace anneal::nn
