// Deep Bayesian multi-task learning. Wang et al., "Deep Bayesian Multi-Target Learning for Recommender Systems", 2019;
// parity/models.md 10.3.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/task_tower.h"
#include "worker/nn/mask_net.h"
#include "worker/nn/mmoe.h"

namespace anneal::models {

/// First group -> optional MaskNet -> optional bottom MLP -> optional mixture of experts, which gives each task a
/// vector of its own -> optional MLP of the task. A task with a relation MLP then reads its own vector and those of the
/// tasks that it is related to, which stand before it. State names: mask_net, bottom_mlp, mmoe, task_mlps.<tower>,
/// relation_mlps.<tower>, task_outputs.<t>.
class Dbmtl : public Model {
 public:
  explicit Dbmtl(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  struct Task {
    std::unique_ptr<nn::Mlp> mlp, relation_mlp;
    std::vector<size_t> related;  ///< indices of tasks before
    std::unique_ptr<nn::Linear> output;
    int64_t width = 0;  ///< of what `output` reads
  };

  void AddTask(const tzrec::protos::BayesTaskTower& tower, int64_t width);

  std::string group_;
  std::unique_ptr<nn::MaskNet> mask_net_;
  std::unique_ptr<nn::Mlp> bottom_;
  std::unique_ptr<nn::Mmoe> mmoe_;
  std::vector<Task> tasks_;
};

}  // namespace anneal::models
