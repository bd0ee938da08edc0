#include "worker/nn/normalization.h"

#include <ATen/ATen.h>

namespace anneal::nn {

BatchNorm1d::BatchNorm1d(int64_t features)
    : weight_(RegisterParameter("weight", at::ones({features}))),
      bias_(RegisterParameter("bias", at::zeros({features}))),
      running_mean_(RegisterBuffer("running_mean", at::zeros({features}))),
      running_var_(RegisterBuffer("running_var", at::ones({features}))),
      num_batches_tracked_(RegisterBuffer("num_batches_tracked", at::zeros({}, at::kLong))) {}

at::Tensor BatchNorm1d::Forward(const at::Tensor& x) {
  if (training()) num_batches_tracked_.add_(1);
  return at::batch_norm(x, weight_, bias_, running_mean_, running_var_, training(), 0.1, 1e-5, false);
}

LayerNorm::LayerNorm(int64_t features)
    : features_(features),
      weight_(RegisterParameter("weight", at::ones({features}))),
      bias_(RegisterParameter("bias", at::zeros({features}))) {}

at::Tensor LayerNorm::Forward(const at::Tensor& x) const {
  return at::layer_norm(x, {features_}, weight_, bias_, 1e-5, false);
}

}  // namespace anneal::nn
