#include "worker/models/mmoe.h"

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::models {
namespace {

void RequireColumn(const std::vector<std::string>& columns, const std::string& name, const std::string& where,
                   const std::string& list) {
  if (std::find(columns.begin(), columns.end(), name) == columns.end()) {
    throw ConfigError(where + ": '" + name + "' is not in data_config." + list);
  }
}

}  // namespace

TaskTower::TaskTower(int64_t in, const tzrec::protos::TaskTower& config) {
  if (config.has_mlp()) {
    mlp_ = std::make_unique<nn::Mlp>(in, config.mlp());
    RegisterModule("tower_mlp", *mlp_);
    in = mlp_->output_dim();
  }
  linear_ = std::make_unique<nn::Linear>(in, config.num_class());
  RegisterModule("linear", *linear_);
}

at::Tensor TaskTower::Forward(const at::Tensor& x) { return linear_->Forward(mlp_ ? mlp_->Forward(x) : x); }

Head TowerHead(const tzrec::protos::TaskTower& tower, const ModelInput& input) {
  const std::string where = "task_towers '" + tower.tower_name() + "'";
  Head head;
  head.suffix = "_" + tower.tower_name();
  head.label = tower.label_name();
  head.num_class = static_cast<int>(tower.num_class());
  head.losses.assign(tower.losses().begin(), tower.losses().end());
  head.metrics.assign(tower.metrics().begin(), tower.metrics().end());
  head.train_metrics.assign(tower.train_metrics().begin(), tower.train_metrics().end());
  head.weighted = tower.has_sample_weight_name() || tower.has_weight() || tower.has_task_space_indicator_label();
  head.weight = tower.weight();
  head.sample_weight = tower.sample_weight_name();
  head.space_indicator = tower.task_space_indicator_label();
  head.in_space_weight = tower.in_task_space_weight();
  head.out_space_weight = tower.out_task_space_weight();
  RequireColumn(input.label_fields, head.label, where + ".label_name", "label_fields");
  if (!head.sample_weight.empty()) {
    RequireColumn(input.sample_weight_fields, head.sample_weight, where + ".sample_weight_name",
                  "sample_weight_fields");
  }
  if (!head.space_indicator.empty()) {
    RequireColumn(input.label_fields, head.space_indicator, where + ".task_space_indicator_label", "label_fields");
  }
  return head;
}

MmoeModel::MmoeModel(const ModelInput& input) {
  const auto& config = input.config.mmoe();
  if (input.plan.groups.empty()) throw ConfigError("model_config.mmoe: there is no feature group");
  if (config.task_towers_size() == 0) throw ConfigError("model_config.mmoe: there are no task_towers");
  const Group& group = input.plan.groups.front();
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
