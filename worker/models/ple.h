// PLE. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
// Recommendations", RecSys 2020. parity/models.md 10.2.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/multi_task_model.h"
#include "worker/nn/extraction_net.h"

namespace anneal::models {

/// The first feature group enters the first of the extraction networks as every task's vector and the shared one; tower
/// t reads what the last one gives task t.
class Ple : public MultiTaskModel {
 public:
  explicit Ple(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string group_;
  int tasks_;
  std::vector<std::unique_ptr<nn::ExtractionNet>> nets_;
};

}  // namespace anneal::models
