#include "worker/train/engine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "worker/eval/trained_model.h"

namespace anneal::train {

Engine::Engine(models::Network& network, embedding::ShardedEmbedding& tables, optim::OptimizerGroups& optimizers,
               const tzrec::protos::TrainConfig& config, dist::ProcessGroup& group, uint64_t seed)
    : network_(network),
      tables_(tables),
      optimizers_(optimizers),
      group_(group),
      accumulation_(std::max<int64_t>(config.gradient_accumulation_steps(), 1)),
      clipping_(config.grad_clipping()),
      seed_(seed) {
  network_.set_autocast(nn::MixedPrecisionType(config.mixed_precision(), "train_config.mixed_precision"));
  if (config.has_grad_scaler()) scaler_.emplace(config.grad_scaler());
  if (config.dense_optimizer().has_ema()) {
    ema_.emplace(config.dense_optimizer().ema().decay(), optimizers_.parameters());
  }
  if (group_.world_size() == 1) return;
  int64_t elements = 2;
  for (const auto& parameter : optimizers_.parameters()) elements += parameter.tensor.numel();
  flat_ = at::zeros({elements}, at::kFloat);
}

StepResult Engine::Step(const data::Batch& batch, int64_t step, const Rates& rates, bool ask_stop) {
  StepResult result;
  at::manual_seed(seed_ * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(step) * 1000003ULL +
                  static_cast<uint64_t>(group_.rank()));
  at::Tensor pooled = tables_.Forward(batch);
  if (tables_.global_rows() == 0) {
    result.ended = true;
    return result;
  }
  if (accumulated_steps_ % accumulation_ == 0) optimizers_.ZeroGradients();
  at::Tensor pooled_gradient;
  if (batch.rows > 0) {
    pooled.set_requires_grad(true);
    const at::Tensor dense = eval::DenseTensor(batch, network_.plan().dense_width);
    const models::Predictions predictions = network_.Forward(pooled, dense);
    result.losses = network_.ComputeLosses(predictions, batch);
    at::Tensor total = result.losses.front().second;
    for (size_t i = 1; i < result.losses.size(); ++i) total = total + result.losses[i].second;
    if (accumulation_ > 1) total = total / accumulation_;
    if (scaler_) total = total * scaler_->scale();
    total.backward();
    for (auto& [name, loss] : result.losses) loss = loss.detach();
    pooled_gradient = pooled.grad();
  }
  if (!pooled_gradient.defined()) pooled_gradient = at::zeros_like(pooled.detach());
  tables_.AccumulateDenseGradients(pooled_gradient);
  const bool bad = scaler_ && !optim::AllFinite(pooled_gradient);
  const Flags flags = AverageGradients({ask_stop, bad});
  // A gradient that overflowed would ruin the rows that it touches for good.
  if (!flags.found_inf) {
    tables_.BackwardUpdate(pooled_gradient, rates.sparse, scaler_ ? scaler_->inverse_scale() : 1.0f);
  }
  if (++accumulated_steps_ % accumulation_ == 0) UpdateDense(rates);
  result.stop_asked = flags.stop;
  return result;
}

void Engine::UpdateDense(const Rates& rates) {
  const auto& parameters = optimizers_.parameters();
  const bool found_inf = scaler_ && scaler_->Unscale(parameters);
  if (!found_inf) {
    clipping_.Apply(parameters);
    optimizers_.Step(rates.dense);
    if (ema_) ema_->Update();
  }
  if (scaler_) scaler_->Update(found_inf);
}

Engine::Flags Engine::AverageGradients(Flags mine) {
  if (group_.world_size() == 1) return mine;
  const c10::AutoGradMode no_grad(false);
  const auto& parameters = optimizers_.parameters();
  int64_t at = 0;
  for (const auto& parameter : parameters) {
    at::Tensor slot = flat_.narrow(0, at, parameter.tensor.numel());
    const at::Tensor& gradient = parameter.tensor.grad();
    if (gradient.defined()) {
      slot.copy_(gradient.reshape({-1}));
    } else {
      slot.zero_();
    }
    at += parameter.tensor.numel();
  }
  flat_.narrow(0, at, 1).fill_(mine.stop ? 1.0 : 0.0);
  flat_.narrow(0, at + 1, 1).fill_(mine.found_inf ? 1.0 : 0.0);
  group_.AllReduceSum(flat_);
  const Flags any{flat_[at].item<float>() > 0, flat_[at + 1].item<float>() > 0};
  flat_.div_(group_.world_size());
  at = 0;
  for (const auto& parameter : parameters) {
    parameter.tensor.mutable_grad() = flat_.narrow(0, at, parameter.tensor.numel()).view(parameter.tensor.sizes());
    at += parameter.tensor.numel();
  }
  return any;
}

std::vector<nn::NamedTensor> Engine::AccumulatedGradients(bool make) {
  std::vector<nn::NamedTensor> gradients;
  if (accumulated_steps_ % accumulation_ == 0) return gradients;
  for (const auto& parameter : optimizers_.parameters()) {
    at::Tensor& gradient = parameter.tensor.mutable_grad();
    if (!gradient.defined() && make) gradient = at::zeros_like(parameter.tensor.detach());
    if (gradient.defined()) gradients.push_back({parameter.name + "//accumulated_gradient", gradient});
  }
  return gradients;
}

}  // namespace anneal::train
