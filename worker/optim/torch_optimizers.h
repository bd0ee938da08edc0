// The single optimizers behind MakeDenseOptimizer, and what they share.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <memory>
#include <utility>
#include <vector>

#include "worker/optim/dense_optimizer.h"

namespace anneal::optim {

std::unique_ptr<DenseOptimizer> MakeSgd(const tzrec::protos::SGDOptimizer&, std::vector<nn::NamedTensor>);
std::unique_ptr<DenseOptimizer> MakeAdagrad(const tzrec::protos::AdagradOptimizer&, std::vector<nn::NamedTensor>);
std::unique_ptr<DenseOptimizer> MakeAdam(const tzrec::protos::AdamOptimizer&, std::vector<nn::NamedTensor>);
std::unique_ptr<DenseOptimizer> MakeAdamW(const tzrec::protos::AdamWOptimizer&, std::vector<nn::NamedTensor>);
std::unique_ptr<DenseOptimizer> MakeAdadelta(const tzrec::protos::AdadeltaOptimizer&, std::vector<nn::NamedTensor>);
std::unique_ptr<DenseOptimizer> MakeRmsprop(const tzrec::protos::RMSpropOptimizer&, std::vector<nn::NamedTensor>);

/// One tensor of a parameter's shape per parameter, filled with `value`.
inline std::vector<at::Tensor> StateLike(const std::vector<nn::NamedTensor>& parameters, double value) {
  std::vector<at::Tensor> state;
  for (const auto& parameter : parameters) state.push_back(at::full_like(parameter.tensor.detach(), value));
  return state;
}

/// torch.optim's step counter, one float32 scalar per parameter: on the host, for `fused` kernels where the parameters
/// are.
inline std::vector<at::Tensor> StepCounters(const std::vector<nn::NamedTensor>& parameters, bool fused = false) {
  std::vector<at::Tensor> state;
  for (const auto& parameter : parameters) {
    state.push_back(at::zeros({}, at::TensorOptions(at::kFloat).device(fused ? parameter.tensor.device() : at::kCPU)));
  }
  return state;
}

/// DenseOptimizer::State of tensors kept per parameter under these keys; a key without tensors is left out.
inline std::vector<nn::NamedTensor> StateByKey(
    const std::vector<nn::NamedTensor>& parameters,
    const std::vector<std::pair<const char*, const std::vector<at::Tensor>*>>& keys) {
  std::vector<nn::NamedTensor> state;
  for (size_t i = 0; i < parameters.size(); ++i) {
    for (const auto& [key, tensors] : keys) {
      if (!tensors->empty()) state.push_back({parameters[i].name + "//" + key, (*tensors)[i]});
    }
  }
  return state;
}

/// Runs step(i, parameter, gradient) for every parameter with a gradient, autograd off. With `decay` the gradient is
/// gradient + decay * parameter, as weight_decay of torch.optim (all but AdamW) has it.
template <typename Function>
void ForEachTouched(const std::vector<nn::NamedTensor>& parameters, double decay, Function step) {
  const c10::AutoGradMode no_grad(false);
  for (size_t i = 0; i < parameters.size(); ++i) {
    at::Tensor parameter = parameters[i].tensor, gradient = parameter.grad();
    if (!gradient.defined()) continue;
    if (decay != 0) gradient = gradient.add(parameter, decay);
    step(i, parameter, gradient);
  }
}

}  // namespace anneal::optim
