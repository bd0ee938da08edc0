#include "worker/models/dc2vr.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::models {

Dc2vr::Dc2vr(const ModelInput& input) {
  const auto& config = input.config.dc2vr();
  if (config.task_towers_size() == 0) throw ConfigError("model_config.dc2vr: there are no task_towers");
  const Group& group = input.FirstGroup();
  group_ = group.name;
  int64_t width = group.width;
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

void Dc2vr::AddTask(const tzrec::protos::InterventionTaskTower& tower, int64_t width) {
  const std::string where = "task_towers '" + tower.tower_name() + "'";
  Task task;
  task.width = width;
  if (tower.has_mlp()) {
    task.mlp = std::make_unique<nn::Mlp>(width, tower.mlp());
    RegisterModule("task_mlps." + tower.tower_name(), *task.mlp);
    task.width = task.mlp->output_dim();
  }
  int64_t source_width = 0;
  for (const std::string& name : tower.intervention_tower_names()) {
    const auto found =
        std::find_if(heads_.begin(), heads_.end(), [&](const Head& head) { return head.suffix == "_" + name; });
    if (found == heads_.end())
      throw ConfigError(where + ".intervention_tower_names: no tower '" + name + "' stands before it");
    task.sources.push_back(found - heads_.begin());
    source_width += tasks_[task.sources.back()].width;
  }
  if (!task.sources.empty()) {
    const int64_t rank = tower.low_rank_dim();
    if (rank < 1 || rank >= std::min(task.width, source_width)) {
      throw ConfigError(where + ".low_rank_dim is " + std::to_string(rank) + "; its vector of " +
                        std::to_string(task.width) + " numbers and the others' of " + std::to_string(source_width) +
                        " allow 1 to " + std::to_string(std::min(task.width, source_width) - 1));
    }
    task.intervention = std::make_unique<nn::Intervention>(task.width, source_width, rank, tower.dropout_ratio());
    RegisterModule("intervention." + tower.tower_name(), *task.intervention);
  }
  task.output = std::make_unique<nn::Linear>(task.width, tower.num_class());
  RegisterModule("task_outputs." + std::to_string(tasks_.size()), *task.output);
  tasks_.push_back(std::move(task));
}

std::vector<at::Tensor> Dc2vr::Forward(const Groups& groups) {
  at::Tensor shared = groups.at(group_);
  if (bottom_) shared = bottom_->Forward(shared);
  std::vector<at::Tensor> vectors = mmoe_ ? mmoe_->Forward(shared) : std::vector<at::Tensor>(tasks_.size(), shared);
  std::vector<at::Tensor> outputs;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    Task& task = tasks_[t];
    if (task.mlp) vectors[t] = task.mlp->Forward(vectors[t]);
    if (task.intervention) {
      std::vector<at::Tensor> sources;
      for (const size_t source : task.sources) sources.push_back(vectors[source]);
      vectors[t] = task.intervention->Forward(vectors[t], at::cat(sources, 1));
    }
    outputs.push_back(task.output->Forward(vectors[t]));
  }
  return outputs;
}

}  // namespace anneal::models
