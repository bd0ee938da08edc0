#include "worker/train/engine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "worker/eval/trained_model.h"

namespace anneal::train {

Engine::Engine(models::Network& network, embedding::ShardedEmbedding& tables, optim::DenseOptimizer& dense_optimizer,
               dist::ProcessGroup& group, uint64_t seed)
    : network_(network),
      tables_(tables),
      dense_optimizer_(dense_optimizer),
      group_(group),
      parameters_(network.DenseParameters()),
      seed_(seed) {
  if (group_.world_size() == 1) return;
  int64_t elements = 1;
  for (const auto& parameter : parameters_) elements += parameter.tensor.numel();
  flat_ = at::zeros({elements}, at::kFloat);
}

StepResult Engine::Step(const data::Batch& batch, int64_t step, double sparse_rate, double dense_rate, bool ask_stop) {
  StepResult result;
  at::manual_seed(seed_ * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(step) * 1000003ULL +
                  static_cast<uint64_t>(group_.rank()));
  at::Tensor pooled = tables_.Forward(batch);
  if (tables_.global_rows() == 0) {
    result.ended = true;
    return result;
  }
  at::Tensor pooled_gradient;
  if (batch.rows > 0) {
    pooled.set_requires_grad(true);
    const at::Tensor dense = eval::DenseTensor(batch, network_.plan().dense_width);
    const models::Predictions predictions = network_.Forward(pooled, dense);
    result.losses = network_.ComputeLosses(predictions, batch);
    at::Tensor total = result.losses.front().second;
    for (size_t i = 1; i < result.losses.size(); ++i) total = total + result.losses[i].second;
    total.backward();
    for (auto& [name, loss] : result.losses) loss = loss.detach();
    pooled_gradient = pooled.grad();
  }
  if (!pooled_gradient.defined()) pooled_gradient = at::zeros_like(pooled.detach());
  tables_.BackwardUpdate(pooled_gradient, sparse_rate);
  result.stop_asked = AverageGradients(ask_stop);
  dense_optimizer_.Step(dense_rate);
  dense_optimizer_.ZeroGradients();
  return result;
}

bool Engine::AverageGradients(bool ask_stop) {
  if (group_.world_size() == 1) return ask_stop;
  const c10::AutoGradMode no_grad(false);
  int64_t at = 0;
  for (const auto& parameter : parameters_) {
    at::Tensor slot = flat_.narrow(0, at, parameter.tensor.numel());
    const at::Tensor& gradient = parameter.tensor.grad();
    if (gradient.defined()) {
      slot.copy_(gradient.reshape({-1}));
    } else {
      slot.zero_();
    }
    at += parameter.tensor.numel();
  }
  flat_.narrow(0, at, 1).fill_(ask_stop ? 1.0 : 0.0);
  group_.AllReduceSum(flat_);
  const bool stop = flat_[at].item<float>() > 0;
  flat_.div_(group_.world_size());
  at = 0;
  for (auto& parameter : parameters_) {
    parameter.tensor.mutable_grad() = flat_.narrow(0, at, parameter.tensor.numel()).view(parameter.tensor.sizes());
    at += parameter.tensor.numel();
  }
  return stop;
}

}  // namespace anneal::train
