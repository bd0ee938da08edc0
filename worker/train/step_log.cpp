#include "worker/train/step_log.h"

#include <ATen/ATen.h>

#include <cstdio>

namespace anneal::train {
namespace {

std::string Fixed(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.5f", value);
  return text;
}

void WriteHistogram(EventWriter& events, const std::string& name, const at::Tensor& values, int64_t step) {
  const at::Tensor host = values.detach().to(at::kCPU).contiguous();
  events.Histogram(name, {host.const_data_ptr<float>(), static_cast<size_t>(host.numel())}, step);
}

}  // namespace

StepLog::StepLog(const tzrec::protos::TrainConfig& config, const std::string& model_dir, const dist::Topology& topology,
                 Learner& learner, int64_t first_step)
    : learner_(learner),
      console_(topology.local_rank == 0, first_step),
      rank_(topology.rank),
      summaries_(config.tensorboard_summaries().begin(), config.tensorboard_summaries().end()) {
  if (topology.rank == 0 && config.use_tensorboard()) events_ = std::make_unique<EventWriter>(model_dir);
}

void StepLog::Write(int64_t step, int64_t epoch, const Scalars& losses, double total, const Rates& rates,
                    const Scalars& metrics) {
  const std::vector<double> groups = learner_.RateGroups(rates);
  std::string suffix;
  for (size_t i = 0; i < groups.size(); ++i) {
    suffix += "lr_g" + std::to_string(i) + ":" + Fixed(groups[i]) + " ";
    if (events_) events_->Scalar("lr/g" + std::to_string(i), groups[i], step);
  }
  for (const auto& [name, value] : losses) {
    suffix += name + ":" + Fixed(value) + " ";
    if (events_) events_->Scalar("loss/" + name, value, step);
  }
  suffix += "total_loss: " + Fixed(total);
  for (const auto& [name, value] : metrics) {
    suffix += " " + name + ":" + Fixed(value);
    if (events_) events_->Scalar("metric/" + name, value, step);
  }
  if (events_) {
    events_->Scalar("loss/total", total, step);
    WriteGradients(step);
    if (summaries_.count("parameter")) WriteParameters(step);
  }
  if (console_.Due(step)) {
    console_.Print("Training Epoch " + std::to_string(epoch), step, suffix);
    Flush();
  }
}

void StepLog::WriteGradients(int64_t step) {
  const auto& parameters = learner_.optimizers().parameters();
  if (summaries_.count("global_gradient_norm")) {
    events_->Scalar("global_gradient_norm", optim::GradientNorm(parameters), step);
  }
  const bool norms = summaries_.count("gradient_norm"), histograms = summaries_.count("gradient");
  for (const auto& parameter : parameters) {
    if (!(norms || histograms) || !parameter.tensor.grad().defined()) continue;
    if (norms) events_->Scalar(parameter.name + "/gradient_norm", optim::GradientNorm({parameter}), step);
    if (histograms) WriteHistogram(*events_, parameter.name + "/gradient", parameter.tensor.grad(), step);
  }
}

void StepLog::WriteParameters(int64_t step) {
  for (const auto& parameter : learner_.network().DenseParameters()) {
    WriteHistogram(*events_, parameter.name, parameter.tensor, step);
  }
  for (const auto& table : learner_.tables().dense_tables()) WriteHistogram(*events_, table.name, table.tensor, step);
  for (const auto& shard : learner_.tables().weights()) {
    WriteHistogram(*events_, shard.name + "/rank:" + std::to_string(rank_), shard.tensor(), step);
  }
}

void StepLog::Flush() {
  if (events_) events_->Flush();
}

}  // namespace anneal::train
