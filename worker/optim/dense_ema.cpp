#include "worker/optim/dense_ema.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace anneal::optim {

DenseEma::DenseEma(double decay, std::vector<nn::NamedTensor> parameters)
    : decay_(decay), parameters_(std::move(parameters)) {
  for (const auto& parameter : parameters_) averages_.push_back(parameter.tensor.detach().clone());
}

void DenseEma::Update() {
  const c10::AutoGradMode no_grad(false);
  for (size_t i = 0; i < averages_.size(); ++i) {
    if (updates_ == 0) {
      averages_[i].copy_(parameters_[i].tensor);
    } else {
      averages_[i].lerp_(parameters_[i].tensor, 1 - decay_);
    }
  }
  ++updates_;
}

void DenseEma::Swap() {
  if (updates_ == 0) return;
  const c10::AutoGradMode no_grad(false);
  for (size_t i = 0; i < averages_.size(); ++i) {
    const at::Tensor live = parameters_[i].tensor.detach().clone();
    parameters_[i].tensor.detach().copy_(averages_[i]);
    averages_[i].copy_(live);
  }
}

std::vector<nn::NamedTensor> DenseEma::State() const {
  std::vector<nn::NamedTensor> state;
  for (size_t i = 0; i < averages_.size(); ++i) state.push_back({parameters_[i].name + "//dense_ema", averages_[i]});
  return state;
}

}  // namespace anneal::optim
