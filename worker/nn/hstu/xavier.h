// How the linear layers of a transducer begin.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

#include "worker/nn/linear.h"

namespace anneal::nn::hstu {

/// Uniform in +-sqrt(6 / (rows + columns)) (Glorot and Bengio, AISTATS 2010).
inline at::Tensor Xavier(int64_t rows, int64_t columns) {
  const double bound = std::sqrt(6.0 / static_cast<double>(rows + columns));
  return at::empty({rows, columns}, at::kFloat).uniform_(-bound, bound);
}

/// The layer's weight so, its bias 0.
inline void InitXavier(Linear& linear) {
  at::Tensor weight = linear.weight().detach();
  weight.copy_(Xavier(weight.size(0), weight.size(1)));
  linear.ZeroBias();
}

}  // namespace anneal::nn::hstu
