#include "worker/models/mmoe.h"

#include "worker/config/error.h"

namespace anneal::models {

MmoeModel::MmoeModel(const ModelInput& input) {
  const auto& config = input.config.mmoe();
  if (config.task_towers_size() == 0) throw ConfigError("model_config.mmoe: there are no task_towers");
  const Group& group = input.FirstGroup();
  group_ = group.name;
  mmoe_ = std::make_unique<nn::Mmoe>(group.width, config.expert_mlp(), static_cast<int>(config.num_expert()),
                                     config.task_towers_size(), config.has_gate_mlp() ? &config.gate_mlp() : nullptr);
  RegisterModule("mmoe", *mmoe_);
  for (int t = 0; t < config.task_towers_size(); ++t) {
    const auto& tower = config.task_towers(t);
    heads_.push_back(TowerHead(tower, input));
    towers_.push_back(std::make_unique<TaskTower>(mmoe_->output_dim(), tower));
    RegisterModule("_task_tower." + std::to_string(t), *towers_.back());
  }
}

std::vector<at::Tensor> MmoeModel::Forward(const Groups& groups) {
  const std::vector<at::Tensor> tasks = mmoe_->Forward(groups.at(group_));
  std::vector<at::Tensor> outputs;
  for (size_t t = 0; t < towers_.size(); ++t) outputs.push_back(towers_[t]->Forward(tasks[t]));
  return outputs;
}

}  // namespace anneal::models
