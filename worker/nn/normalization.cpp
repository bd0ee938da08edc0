#include "worker/nn/normalization.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"

namespace anneal::nn {

BatchNorm1d::BatchNorm1d(int64_t features, bool affine)
    : weight_(affine ? RegisterParameter("weight", at::ones({features})) : at::Tensor()),
      bias_(affine ? RegisterParameter("bias", at::zeros({features})) : at::Tensor()),
      running_mean_(RegisterBuffer("running_mean", at::zeros({features}))),
      running_var_(RegisterBuffer("running_var", at::ones({features}))),
      num_batches_tracked_(RegisterBuffer("num_batches_tracked", at::zeros({}, at::kLong))) {}

at::Tensor BatchNorm1d::Forward(const at::Tensor& x) {
  // As nn.BatchNorm1d: one row has no variance, and the running one would be NaN from then on.
  if (training() && x.size(0) == 1)
    throw DataError(
        "batch norm: expected more than 1 value per channel when training, this batch has one row: set "
        "data_config.drop_remainder or another batch_size");
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
