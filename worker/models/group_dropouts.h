// The variational dropout of feature groups (model_config.variational_dropout, parity/models.md 4.6).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tzrec/model.pb.h"
#include "worker/models/embedding_group.h"
#include "worker/models/head.h"
#include "worker/nn/variational_dropout.h"

namespace anneal::models {

/// Of every DEEP or WIDE group with more than one entry (feature or encoder). State names
/// "model.group_variational_dropouts.<group>....", of a match model's tower "model.<tower>.group_...", complete.
class GroupDropouts : public nn::Module {
 public:
  GroupDropouts(const EmbeddingPlan& plan, const tzrec::protos::ModelConfig& config);

  bool Has(size_t group) const { return dropouts_[group] != nullptr; }
  /// Group `group` of the plan, [B, Group::width], which has one. In training adds its penalty to the predictions.
  at::Tensor Forward(size_t group, const at::Tensor& x, Predictions& predictions) const;
  /// "<group>_feature_p_loss" of each, in the order of the plan.
  std::vector<std::string> penalty_names() const;

 private:
  std::string PenaltyName(size_t group) const { return plan_.groups[group].name + "_feature_p_loss"; }

  const EmbeddingPlan& plan_;
  const double lambda_;
  std::vector<std::unique_ptr<nn::VariationalDropout>> dropouts_;  ///< per group, or null
};

}  // namespace anneal::models
