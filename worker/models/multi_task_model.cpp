#include "worker/models/multi_task_model.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::models {

void MultiTaskModel::AddTowers(const google::protobuf::RepeatedPtrField<tzrec::protos::TaskTower>& towers, int64_t in,
                               const ModelInput& input, const Domains& domains) {
  if (towers.empty()) throw ConfigError("model_config: there are no task_towers");
  for (const auto& tower : towers) {
    heads_.push_back(TowerHead(tower, input));
    heads_.back().domains = domains.count;
    heads_.back().domain_label = domains.label;
    for (int d = 0; d < std::max(domains.count, 1); ++d) {
      towers_.push_back(std::make_unique<TaskTower>(in, tower));
      RegisterModule("_task_tower." + std::to_string(towers_.size() - 1), *towers_.back());
    }
  }
}

std::vector<at::Tensor> MultiTaskModel::Towers(const std::vector<at::Tensor>& tasks) {
  std::vector<at::Tensor> outputs;
  const size_t each = towers_.size() / tasks.size();
  for (size_t t = 0; t < tasks.size(); ++t) {
    std::vector<at::Tensor> of_domains;
    for (size_t d = 0; d < each; ++d) of_domains.push_back(towers_[t * each + d]->Forward(tasks[t]));
    outputs.push_back(each == 1 ? of_domains.front() : at::cat(of_domains, 1));
  }
  return outputs;
}

}  // namespace anneal::models
