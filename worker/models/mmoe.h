// Multi-gate mixture of experts with one tower per task. Ma et al., KDD 2018; parity/models.md 10.1.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/multi_task_model.h"
#include "worker/nn/mmoe.h"

namespace anneal::models {

/// The first feature group feeds the experts; tower t reads the mixture of task t.
class MmoeModel : public MultiTaskModel {
 public:
  explicit MmoeModel(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string group_;
  std::unique_ptr<nn::Mmoe> mmoe_;
};

}  // namespace anneal::models
