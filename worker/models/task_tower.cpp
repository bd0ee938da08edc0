#include "worker/models/task_tower.h"

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

/// `Tower`: one of the messages for towers, which share these fields.
template <typename Tower>
Head MakeHead(const Tower& tower, const ModelInput& input) {
  const std::string where = "task_towers '" + tower.tower_name() + "'";
  Head head;
  head.suffix = "_" + tower.tower_name();
  head.label = tower.label_name();
  head.num_class = static_cast<int>(tower.num_class());
  head.losses.assign(tower.losses().begin(), tower.losses().end());
  head.metrics.assign(tower.metrics().begin(), tower.metrics().end());
  head.train_metrics.assign(tower.train_metrics().begin(), tower.train_metrics().end());
  head.weighted = tower.has_weight() || tower.has_task_space_indicator_label();
  head.weight = tower.weight();
  if constexpr (requires { tower.sample_weight_name(); }) {
    head.weighted = head.weighted || tower.has_sample_weight_name();
    head.sample_weight = tower.sample_weight_name();
  }
  head.space_indicator = tower.task_space_indicator_label();
  head.pareto_min_weight = tower.pareto_min_loss_weight();
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

Head TowerHead(const tzrec::protos::TaskTower& tower, const ModelInput& input) { return MakeHead(tower, input); }

Head TowerHead(const tzrec::protos::BayesTaskTower& tower, const ModelInput& input) { return MakeHead(tower, input); }

Head TowerHead(const tzrec::protos::InterventionTaskTower& tower, const ModelInput& input) {
  return MakeHead(tower, input);
}

}  // namespace anneal::models
