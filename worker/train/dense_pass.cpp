#include "worker/train/dense_pass.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "worker/config/environment.h"
#include "worker/losses/pareto.h"
#include "worker/train/progress/log.h"
#include "worker/train/progress/step_times.h"

namespace anneal::train {
namespace {

/// Batches of one size before it is recorded: LibTorch loads kernels and makes handles at their first use.
constexpr int64_t kBeforeRecording = 3;

bool RecordsGraphs(const models::Network& network, at::Device device) {
  if (config::EnvironmentInt("ANNEAL_CUDA_GRAPHS", 0, 0, 1) == 0) return false;
  const bool sequences = !network.plan().sequence_groups.empty(), pareto = !network.pareto_min_weights().empty();
  if (device.is_cpu()) LogWarning("ANNEAL_CUDA_GRAPHS=1 does nothing on the CPU");
  if (!device.is_cpu() && sequences) LogWarning("ANNEAL_CUDA_GRAPHS=1 does nothing for a model with sequences");
  if (!device.is_cpu() && pareto) LogWarning("ANNEAL_CUDA_GRAPHS=1 does nothing with use_pareto_loss_weight");
  return !device.is_cpu() && !sequences && !pareto;
}

/// The tensors of an input that are defined, in one order.
std::vector<at::Tensor> TensorsOf(const DensePass::Input& input) {
  std::vector<at::Tensor> tensors{input.found.pooled, input.dense};
  for (const auto& head : input.targets.heads) {
    tensors.insert(tensors.end(), {head.label, head.weights, head.domain});
    tensors.insert(tensors.end(), head.sessions.begin(), head.sessions.end());
  }
  tensors.push_back(input.scale);
  std::erase_if(tensors, [](const at::Tensor& tensor) { return !tensor.defined(); });
  return tensors;
}

}  // namespace

DensePass::DensePass(models::Network& network, const std::vector<nn::NamedTensor>& parameters, int64_t accumulation,
                     at::Device device)
    : network_(network),
      parameters_(parameters),
      accumulation_(accumulation),
      least_weights_(network.pareto_min_weights()),
      records_(RecordsGraphs(network, device)) {}

DensePass::Result DensePass::Run(const Input& input, const std::function<void()>& before_backward) {
  const int64_t rows = input.found.pooled.size(0);
  if (!records_ || input.sampled.count > 0 || (graph_ && rows != place_.found.pooled.size(0)))
    return Compute(input, before_backward);
  if (!graph_) {
    repeats_ = rows == rows_ ? repeats_ + 1 : 0;
    rows_ = rows;
    if (repeats_ < kBeforeRecording) return Compute(input, before_backward);
    Record(input);
  }
  const c10::AutoGradMode no_gradients(false);
  const std::vector<at::Tensor> from = TensorsOf(input), to = TensorsOf(place_);
  for (size_t i = 0; i < from.size(); ++i) to[i].copy_(from[i]);
  graph_->Replay();
  StepTimes::OfProcess().End(Phase::kForward);
  TakeGradients();
  StepTimes::OfProcess().End(Phase::kBackward);
  return recorded_;
}

// The weights follow from the gradients of this rank's rows, as in TorchEasyRec, so that ranks may have different ones.
// It asks autograd for the gradients of everything that is trained, but torchrec's modules show tables as slices that
// are no part of the graph (of both kernels; checked with torchrec 1.5.1 on the CPU): autograd.grad gives None for
// them, and the dense parameters alone decide.
at::Tensor DensePass::TotalOf(const models::Losses& losses) const {
  std::vector<double> weights(losses.size(), 1.0);
  if (!least_weights_.empty()) {
    std::vector<at::Tensor> values, parameters;
    for (const auto& [name, loss] : losses) values.push_back(loss);
    for (const auto& parameter : network_.DenseParameters()) parameters.push_back(parameter.tensor);
    weights = losses::ParetoWeights(losses::GramOfGradients(values, parameters), least_weights_);
  }
  at::Tensor total;
  for (size_t i = 0; i < losses.size(); ++i) {
    const at::Tensor& loss = losses[i].second;
    const at::Tensor weighted = weights[i] == 1.0 ? loss : loss * weights[i];
    total = i == 0 ? weighted : total + weighted;
  }
  return total;
}

DensePass::Result DensePass::Compute(const Input& input, const std::function<void()>& before_backward) {
  Result result;
  at::Tensor pooled = input.found.pooled, elements = input.found.elements;
  pooled.set_requires_grad(true);
  models::NetworkInput features{pooled, input.dense, {}, input.sampled, input.repeated};
  if (elements.defined()) {
    elements.set_requires_grad(true);
    features.sequences = models::AssembleSequences(network_.plan(), input.layout, elements, input.dense);
  }
  result.predictions = network_.Forward(features);
  result.losses = network_.ComputeLosses(result.predictions, input.targets);
  at::Tensor total = TotalOf(result.losses);
  result.total = total.detach();
  if (accumulation_ > 1) total = total / accumulation_;
  if (input.scale.defined()) total = total * input.scale;
  StepTimes::OfProcess().End(Phase::kForward);
  before_backward();
  total.backward();
  for (auto& [name, loss] : result.losses) loss = loss.detach();
  for (auto& [name, value] : result.predictions.values) value = value.detach();
  result.predictions.outputs.clear();
  result.predictions.penalties.clear();
  result.gradient = {pooled.grad(), elements.defined() ? elements.grad() : at::Tensor()};
  StepTimes::OfProcess().End(Phase::kBackward);
  return result;
}

// Recording runs nothing: gradients, running statistics and random numbers are as before.
void DensePass::Record(const Input& input) {
  const auto like = [](const at::Tensor& tensor) { return at::empty_like(tensor.detach()); };
  place_ = {{like(input.found.pooled), {}}, like(input.dense), {}, input.targets.Map(like), {}, {}, {}};
  if (input.scale.defined()) place_.scale = like(input.scale);
  std::vector<at::Tensor> kept;
  for (const auto& parameter : parameters_) kept.push_back(std::move(parameter.tensor.mutable_grad()));
  graph_ = dist::FindAccelerator()->MakeGraph();
  graph_->Record([&] { recorded_ = Compute(place_, [] {}); });
  place_.found.pooled = place_.found.pooled.detach();
  LogInfo("CUDA graph recorded for batches of " + std::to_string(place_.found.pooled.size(0)) + " rows");
  for (size_t i = 0; i < parameters_.size(); ++i) {
    gradients_.push_back(parameters_[i].tensor.grad());
    parameters_[i].tensor.mutable_grad() = std::move(kept[i]);
  }
}

// As autograd would: the first gradient of an accumulation becomes .grad(), the others are added to it.
void DensePass::TakeGradients() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!gradients_[i].defined()) continue;
    at::Tensor& gradient = parameters_[i].tensor.mutable_grad();
    if (gradient.defined()) {
      gradient.add_(gradients_[i]);
    } else {
      gradient = accumulation_ > 1 ? gradients_[i].clone() : gradients_[i];
    }
  }
}

}  // namespace anneal::train
