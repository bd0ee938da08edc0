#include "worker/nn/cross.h"

#include <ATen/ATen.h>

#include <cmath>

#include "worker/nn/arithmetic.h"

namespace anneal::nn {

Cross::Cross(int64_t width, int layers) {
  const double bound = std::sqrt(6.0 / static_cast<double>(width + 1));
  for (int i = 0; i < layers; ++i) {
    weights_.push_back(std::make_unique<Linear>(width, 1, /*bias=*/false));
    weights_.back()->weight().detach().uniform_(-bound, bound);
    RegisterModule("w." + std::to_string(i), *weights_.back());
  }
  for (int i = 0; i < layers; ++i)
    biases_.push_back(RegisterParameter("b." + std::to_string(i), at::zeros({width}, at::kFloat)));
}

at::Tensor Cross::Forward(at::Tensor x) const {
  const at::Tensor x0 = x;
  for (size_t i = 0; i < weights_.size(); ++i) {
    const at::Tensor scale = weights_[i]->Forward(x);  // [B, 1]
    x = Arithmetic::OfProcess().reference() ? x0 * scale + biases_[i] + x : at::addcmul(x + biases_[i], x0, scale);
  }
  return x;
}

CrossV2::CrossV2(int64_t width, int layers, int64_t rank) {
  for (int i = 0; i < layers; ++i) {
    u_.push_back(std::make_unique<Linear>(width, rank, /*bias=*/false));
    RegisterModule("u_kernels." + std::to_string(i), *u_.back());
  }
  for (int i = 0; i < layers; ++i) {
    v_.push_back(std::make_unique<Linear>(rank, width));
    RegisterModule("v_kernels." + std::to_string(i), *v_.back());
  }
}

at::Tensor CrossV2::Forward(at::Tensor x) const {
  const at::Tensor x0 = x;
  for (size_t i = 0; i < u_.size(); ++i) {
    const at::Tensor crossed = v_[i]->Forward(u_[i]->Forward(x));
    x = Arithmetic::OfProcess().reference() ? x0 * crossed + x : at::addcmul(x, x0, crossed);
  }
  return x;
}

}  // namespace anneal::nn
