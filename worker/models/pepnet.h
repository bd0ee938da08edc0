// PEPNet. Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior
// Information", KDD 2023. parity/models.md 10.4.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/multi_task_model.h"
#include "worker/nn/pepnet.h"

namespace anneal::models {

/// Group `all` is the main vector. A group `domain` scales it (EPNet); with a group `uia`, of user, item and author,
/// every task has layers of its own over it (PPNet). Tower t reads what task t's last layer gives, or the main vector.
/// With `domain_input_name` every task has a tower per domain, and a row counts with that of its own, by the label
/// column of that name.
class PepNet : public MultiTaskModel {
 public:
  explicit PepNet(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  size_t tasks_;
  std::unique_ptr<nn::EpNet> epnet_;
  std::unique_ptr<nn::PpNet> ppnet_;
};

}  // namespace anneal::models
