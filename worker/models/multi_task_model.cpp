#include "worker/models/multi_task_model.h"

#include "worker/config/error.h"

namespace anneal::models {

void MultiTaskModel::AddTowers(const google::protobuf::RepeatedPtrField<tzrec::protos::TaskTower>& towers, int64_t in,
                               const ModelInput& input) {
  if (towers.empty()) throw ConfigError("model_config: there are no task_towers");
  for (const auto& tower : towers) {
    heads_.push_back(TowerHead(tower, input));
    towers_.push_back(std::make_unique<TaskTower>(in, tower));
    RegisterModule("_task_tower." + std::to_string(towers_.size() - 1), *towers_.back());
  }
}

std::vector<at::Tensor> MultiTaskModel::Towers(const std::vector<at::Tensor>& tasks) {
  std::vector<at::Tensor> outputs;
  for (size_t t = 0; t < towers_.size(); ++t) outputs.push_back(towers_[t]->Forward(tasks[t]));
  return outputs;
}

}  // namespace anneal::models
