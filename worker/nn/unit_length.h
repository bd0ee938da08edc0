// Vectors of length 1.
#pragma once

#include <ATen/core/Tensor.h>

namespace anneal::nn {

/// x divided by its length over the last axis, which is computed in float32; a vector of length 0 stays one.
inline at::Tensor UnitLength(const at::Tensor& x) {
  return x / x.to(at::kFloat).norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
}

}  // namespace anneal::nn
