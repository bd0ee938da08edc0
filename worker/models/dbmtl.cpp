#include "worker/models/dbmtl.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"

namespace anneal::models {

Dbmtl::Dbmtl(const ModelInput& input) {
  const auto& config = input.config.dbmtl();
  if (config.task_towers_size() == 0) throw ConfigError("model_config.dbmtl: there are no task_towers");
  const Group& group = input.FirstGroup();
  group_ = group.name;
  int64_t width = group.width;
  if (config.has_mask_net()) {
    mask_net_ = std::make_unique<nn::MaskNet>(width, config.mask_net());
    RegisterModule("mask_net", *mask_net_);
    width = mask_net_->output_dim();
  }
  MakeShared(config, width);
  for (const auto& tower : config.task_towers()) {
    Task task = BeginTask(tower);
    auto& relation = relation_mlps_.emplace_back();
    if (tower.has_relation_mlp()) {
      AddSources(tower.relation_tower_names(), "task_towers '" + tower.tower_name() + "'.relation_tower_names", task);
      for (const size_t source : task.sources) task.width += tasks_[source].width;
      relation = std::make_unique<nn::Mlp>(task.width, tower.relation_mlp());
      RegisterModule("relation_mlps." + tower.tower_name(), *relation);
      task.width = relation->output_dim();
    }
    EndTask(tower, input, std::move(task));
  }
}

at::Tensor Dbmtl::Join(size_t t, const std::vector<at::Tensor>& vectors) {
  if (!relation_mlps_[t]) return vectors[t];
  std::vector<at::Tensor> parts = {vectors[t]};
  for (const size_t source : tasks_[t].sources) parts.push_back(vectors[source]);
  return relation_mlps_[t]->Forward(at::cat(parts, 1));
}

std::vector<at::Tensor> Dbmtl::Forward(const Groups& groups) {
  const at::Tensor& x = groups.at(group_);
  return Outputs(mask_net_ ? mask_net_->Forward(x) : x);
}

}  // namespace anneal::models
