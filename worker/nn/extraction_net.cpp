#include "worker/nn/extraction_net.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/nn/expert_mixture.h"

namespace anneal::nn {
namespace {

at::Tensor Mix(const Linear& gate, const at::Tensor& gate_input, const std::vector<at::Tensor>& experts) {
  return MixExperts(experts, {at::softmax(gate.Forward(gate_input), 1)}).front();
}

}  // namespace

ExtractionNet::ExtractionNet(const tzrec::protos::ExtractionNetwork& config, int tasks, int64_t in, bool last) {
  const auto name = [](const std::string& list, int i) { return list + "." + std::to_string(i); };
  const int shared = static_cast<int>(config.share_num()), own = static_cast<int>(config.expert_num_per_task());
  for (int j = 0; j < shared; ++j) {
    shared_layers_.push_back(std::make_unique<Mlp>(in, config.share_expert_net()));
    RegisterModule(name("_shared_layers", j), *shared_layers_.back());
  }
  for (int t = 0; t < tasks; ++t) {
    auto& layers = task_layers_.emplace_back();
    for (int j = 0; j < own; ++j) {
      layers.push_back(std::make_unique<Mlp>(in, config.task_expert_net()));
      RegisterModule(name(name("_task_layers", t), j), *layers.back());
    }
  }
  for (int t = 0; t < tasks; ++t) {
    task_gates_.push_back(std::make_unique<Linear>(in, own + shared));
    RegisterModule(name("_task_gates", t), *task_gates_.back());
  }
  if (!last) {
    shared_gate_ = std::make_unique<Linear>(in, tasks * own + shared);
    RegisterModule("_shared_gate", *shared_gate_);
  }
  if (own + shared == 0) throw ConfigError("extraction network '" + config.network_name() + "' has no experts");
  output_dim_ = own > 0 ? task_layers_.front().front()->output_dim() : shared_layers_.front()->output_dim();
  if (shared > 0 && shared_layers_.front()->output_dim() != output_dim_) {
    throw ConfigError("extraction network '" + config.network_name() + "': task experts are " +
                      std::to_string(output_dim_) + " wide, shared experts " +
                      std::to_string(shared_layers_.front()->output_dim()));
  }
}

ExtractionNet::Vectors ExtractionNet::Forward(const Vectors& inputs) {
  std::vector<at::Tensor> shared, all;
  for (auto& expert : shared_layers_) shared.push_back(expert->Forward(inputs.shared));
  Vectors outputs;
  for (size_t t = 0; t < task_layers_.size(); ++t) {
    std::vector<at::Tensor> experts;
    for (auto& expert : task_layers_[t]) experts.push_back(expert->Forward(inputs.tasks[t]));
    all.insert(all.end(), experts.begin(), experts.end());
    experts.insert(experts.end(), shared.begin(), shared.end());
    outputs.tasks.push_back(Mix(*task_gates_[t], inputs.tasks[t], experts));
  }
  if (shared_gate_) {
    all.insert(all.end(), shared.begin(), shared.end());
    outputs.shared = Mix(*shared_gate_, inputs.shared, all);
  }
  return outputs;
}

}  // namespace anneal::nn
