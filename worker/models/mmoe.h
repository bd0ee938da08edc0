// Multi-gate mixture of experts with one tower per task. Ma et al., KDD 2018; parity/models.md 10.1.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"
#include "worker/nn/mmoe.h"

namespace anneal::models {

/// Optional MLP (`tower_mlp`), then `linear` to num_class.
class TaskTower : public nn::Module {
 public:
  TaskTower(int64_t in, const tzrec::protos::TaskTower& config);
  at::Tensor Forward(const at::Tensor& x);

 private:
  std::unique_ptr<nn::Mlp> mlp_;
  std::unique_ptr<nn::Linear> linear_;
};

/// The first feature group feeds the experts; tower t reads the mixture of task t.
class MmoeModel : public Model {
 public:
  explicit MmoeModel(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string group_;
  std::unique_ptr<nn::Mmoe> mmoe_;
  std::vector<std::unique_ptr<TaskTower>> towers_;
};

/// The head of one tower, with its loss weighting (parity/models.md 7.3).
Head TowerHead(const tzrec::protos::TaskTower& tower, const ModelInput& input);

}  // namespace anneal::models
