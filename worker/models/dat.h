// Dual Augmented Two-tower model (Yu et al., DLP-KDD 2021); parity/models.md 11.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/match_model.h"

namespace anneal::models {

/// Each tower reads a group and an augmented one, whose vectors learn to be like the other tower's vectors of the rows
/// that they were positives of. Losses of its own: amm_loss_u, amm_loss_i. State names as Dssm's.
class Dat : public MatchModel {
 public:
  explicit Dat(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;
  std::vector<at::Tensor> OwnLosses(const std::vector<at::Tensor>& outputs, const Targets& targets) const override;

 private:
  const tzrec::protos::DAT config_;
  std::unique_ptr<VectorTower> user_, item_;
};

}  // namespace anneal::models
