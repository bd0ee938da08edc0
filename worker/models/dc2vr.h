// DC2VR: tasks that lean on others by interventions of low rank; parity/models.md 10.5.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/task_tower.h"
#include "worker/nn/intervention.h"
#include "worker/nn/mmoe.h"

namespace anneal::models {

/// First group -> optional bottom MLP -> optional mixture of experts, which gives each task a vector of its own ->
/// optional MLP of the task. A task with intervention_tower_names is then moved by what those tasks, which stand before
/// it, have in the end. State names: bottom_mlp, mmoe, task_mlps.<tower>, intervention.<tower>, task_outputs.<t>.
class Dc2vr : public Model {
 public:
  explicit Dc2vr(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  struct Task {
    std::unique_ptr<nn::Mlp> mlp;
    std::unique_ptr<nn::Intervention> intervention;
    std::vector<size_t> sources;  ///< indices of tasks before
    std::unique_ptr<nn::Linear> output;
    int64_t width = 0;  ///< of what `output` reads
  };

  void AddTask(const tzrec::protos::InterventionTaskTower& tower, int64_t width);

  std::string group_;
  std::unique_ptr<nn::Mlp> bottom_;
  std::unique_ptr<nn::Mmoe> mmoe_;
  std::vector<Task> tasks_;
};

}  // namespace anneal::models
