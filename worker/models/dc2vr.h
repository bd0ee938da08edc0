// DC2VR: tasks that lean on others by interventions of low rank; parity/models.md 10.5.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/task_chain.h"
#include "worker/nn/intervention.h"

namespace anneal::models {

/// First group -> tasks (task_chain.h), of which one with intervention_tower_names is moved by what those tasks have in
/// the end. State names: intervention.<tower>.
class Dc2vr : public TaskChain {
 public:
  explicit Dc2vr(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override { return Outputs(groups.at(group_)); }

 private:
  at::Tensor Join(size_t t, const std::vector<at::Tensor>& vectors) override;

  std::string group_;
  std::vector<std::unique_ptr<nn::Intervention>> interventions_;  ///< of each task; null: it has none
};

}  // namespace anneal::models
