#include "worker/models/dbmtl.h"

#include <ATen/ATen.h>

#include <algorithm>

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
  if (config.has_bottom_mlp()) {
    bottom_ = std::make_unique<nn::Mlp>(width, config.bottom_mlp());
    RegisterModule("bottom_mlp", *bottom_);
    width = bottom_->output_dim();
  }
  if (config.has_expert_mlp()) {
    mmoe_ = std::make_unique<nn::Mmoe>(width, config.expert_mlp(), static_cast<int>(config.num_expert()),
                                       config.task_towers_size(), config.has_gate_mlp() ? &config.gate_mlp() : nullptr);
    RegisterModule("mmoe", *mmoe_);
    width = mmoe_->output_dim();
  }
  for (const auto& tower : config.task_towers()) {
    AddTask(tower, width);  // finds the heads of those before
    heads_.push_back(TowerHead(tower, input));
  }
}

void Dbmtl::AddTask(const tzrec::protos::BayesTaskTower& tower, int64_t width) {
  Task task;
  task.width = width;
  if (tower.has_mlp()) {
    task.mlp = std::make_unique<nn::Mlp>(width, tower.mlp());
    RegisterModule("task_mlps." + tower.tower_name(), *task.mlp);
    task.width = task.mlp->output_dim();
  }
  if (tower.has_relation_mlp()) {
    for (const std::string& name : tower.relation_tower_names()) {
      const auto found =
          std::find_if(heads_.begin(), heads_.end(), [&](const Head& head) { return head.suffix == "_" + name; });
      if (found == heads_.end()) {
        throw ConfigError("task_towers '" + tower.tower_name() + "'.relation_tower_names: no tower '" + name +
                          "' stands before it");
      }
      task.related.push_back(found - heads_.begin());
      task.width += tasks_[task.related.back()].width;
    }
    task.relation_mlp = std::make_unique<nn::Mlp>(task.width, tower.relation_mlp());
    RegisterModule("relation_mlps." + tower.tower_name(), *task.relation_mlp);
    task.width = task.relation_mlp->output_dim();
  }
  task.output = std::make_unique<nn::Linear>(task.width, tower.num_class());
  RegisterModule("task_outputs." + std::to_string(tasks_.size()), *task.output);
  tasks_.push_back(std::move(task));
}

std::vector<at::Tensor> Dbmtl::Forward(const Groups& groups) {
  at::Tensor shared = groups.at(group_);
  if (mask_net_) shared = mask_net_->Forward(shared);
  if (bottom_) shared = bottom_->Forward(shared);
  std::vector<at::Tensor> vectors = mmoe_ ? mmoe_->Forward(shared) : std::vector<at::Tensor>(tasks_.size(), shared);
  std::vector<at::Tensor> outputs;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    Task& task = tasks_[t];
    if (task.mlp) vectors[t] = task.mlp->Forward(vectors[t]);
    if (task.relation_mlp) {
      std::vector<at::Tensor> parts = {vectors[t]};
      for (const size_t related : task.related) parts.push_back(vectors[related]);
      vectors[t] = task.relation_mlp->Forward(at::cat(parts, 1));
    }
    outputs.push_back(task.output->Forward(vectors[t]));
  }
  return outputs;
}

}  // namespace anneal::models
