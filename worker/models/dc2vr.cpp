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
  MakeShared(config, group.width);
  for (const auto& tower : config.task_towers()) {
    const std::string where = "task_towers '" + tower.tower_name() + "'";
    Task task = BeginTask(tower);
    AddSources(tower.intervention_tower_names(), where + ".intervention_tower_names", task);
    auto& intervention = interventions_.emplace_back();
    if (!task.sources.empty()) {
      int64_t source_width = 0;
      for (const size_t source : task.sources) source_width += tasks_[source].width;
      const int64_t rank = tower.low_rank_dim();
      if (rank < 1 || rank >= std::min(task.width, source_width)) {
        throw ConfigError(where + ".low_rank_dim is " + std::to_string(rank) + "; its vector of " +
                          std::to_string(task.width) + " numbers and the others' of " + std::to_string(source_width) +
                          " allow 1 to " + std::to_string(std::min(task.width, source_width) - 1));
      }
      intervention = std::make_unique<nn::Intervention>(task.width, source_width, rank, tower.dropout_ratio());
      RegisterModule("intervention." + tower.tower_name(), *intervention);
    }
    EndTask(tower, input, std::move(task));
  }
}

at::Tensor Dc2vr::Join(size_t t, const std::vector<at::Tensor>& vectors) {
  if (!interventions_[t]) return vectors[t];
  std::vector<at::Tensor> sources;
  for (const size_t source : tasks_[t].sources) sources.push_back(vectors[source]);
  return interventions_[t]->Forward(vectors[t], at::cat(sources, 1));
}

}  // namespace anneal::models
