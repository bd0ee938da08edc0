// What multi-task models make of the task_towers of their config.
#pragma once

#include <memory>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// Optional MLP (`tower_mlp`), then `linear` to num_class. parity/models.md 10.
class TaskTower : public nn::Module {
 public:
  TaskTower(int64_t in, const tzrec::protos::TaskTower& config);
  at::Tensor Forward(const at::Tensor& x);

 private:
  std::unique_ptr<nn::Mlp> mlp_;
  std::unique_ptr<nn::Linear> linear_;
};

/// The head of one tower, with its loss weighting (parity/models.md 7.3). Throws ConfigError for a column that
/// data_config lacks.
Head TowerHead(const tzrec::protos::TaskTower& tower, const ModelInput& input);
Head TowerHead(const tzrec::protos::BayesTaskTower& tower, const ModelInput& input);
Head TowerHead(const tzrec::protos::InterventionTaskTower& tower, const ModelInput& input);

}  // namespace anneal::models
