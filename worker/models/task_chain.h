// Multi-task models whose tasks use what tasks before them have.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/task_tower.h"
#include "worker/nn/mmoe.h"

namespace anneal::models {

/// x -> optional bottom MLP -> optional mixture of experts, which gives each task a vector of its own -> optional MLP of
/// the task -> Join with the vectors of tasks before -> a linear layer. State names: bottom_mlp, mmoe,
/// task_mlps.<tower>, task_outputs.<t>.
class TaskChain : public Model {
 protected:
  struct Task {
    std::unique_ptr<nn::Mlp> mlp;
    std::vector<size_t> sources;  ///< indices of the tasks that it uses
    std::unique_ptr<nn::Linear> output;
    int64_t width = 0;  ///< of its vector
  };

  /// `Config`: a model's message with bottom_mlp, expert_mlp, num_expert, gate_mlp and task_towers. x is `width` wide.
  template <typename Config>
  void MakeShared(const Config& config, int64_t width) {
    width_ = width;
    if (config.has_bottom_mlp()) {
      bottom_ = std::make_unique<nn::Mlp>(width_, config.bottom_mlp());
      RegisterModule("bottom_mlp", *bottom_);
      width_ = bottom_->output_dim();
    }
    if (config.has_expert_mlp()) {
      mmoe_ =
          std::make_unique<nn::Mmoe>(width_, config.expert_mlp(), static_cast<int>(config.num_expert()),
                                     config.task_towers_size(), config.has_gate_mlp() ? &config.gate_mlp() : nullptr);
      RegisterModule("mmoe", *mmoe_);
      width_ = mmoe_->output_dim();
    }
  }

  /// The next task as far as its MLP.
  template <typename Tower>
  Task BeginTask(const Tower& tower) {
    Task task;
    task.width = width_;
    if (tower.has_mlp()) {
      task.mlp = std::make_unique<nn::Mlp>(width_, tower.mlp());
      RegisterModule("task_mlps." + tower.tower_name(), *task.mlp);
      task.width = task.mlp->output_dim();
    }
    return task;
  }

  /// Names the towers that `task` uses; `where` is the field that does. Throws ConfigError for one that no task before
  /// has.
  template <typename Names>
  void AddSources(const Names& names, const std::string& where, Task& task) const {
    for (const std::string& name : names) task.sources.push_back(TaskBefore(name, where));
  }

  /// The task's linear layer and head: it is whole.
  template <typename Tower>
  void EndTask(const Tower& tower, const ModelInput& input, Task task) {
    task.output = std::make_unique<nn::Linear>(task.width, tower.num_class());
    RegisterModule("task_outputs." + std::to_string(tasks_.size()), *task.output);
    tasks_.push_back(std::move(task));
    heads_.push_back(TowerHead(tower, input));
  }

  /// What the linear layers make of x [B, width].
  std::vector<at::Tensor> Outputs(const at::Tensor& x);
  /// Task t's vector, made of those of all tasks: those of its sources are made already, its own is its MLP's.
  virtual at::Tensor Join(size_t t, const std::vector<at::Tensor>& vectors) = 0;

  std::vector<Task> tasks_;

 private:
  size_t TaskBefore(const std::string& name, const std::string& where) const;

  std::unique_ptr<nn::Mlp> bottom_;
  std::unique_ptr<nn::Mmoe> mmoe_;
  int64_t width_ = 0;  ///< of what tasks begin with
};

}  // namespace anneal::models
