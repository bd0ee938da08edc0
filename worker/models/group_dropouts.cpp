#include "worker/models/group_dropouts.h"

#include "worker/models/match_towers.h"

namespace anneal::models {

GroupDropouts::GroupDropouts(const EmbeddingPlan& plan, const tzrec::protos::ModelConfig& config)
    : plan_(plan), lambda_(config.variational_dropout().regularization_lambda()), dropouts_(plan.groups.size()) {
  if (!config.has_variational_dropout()) return;
  const std::vector<MatchTower> towers = MatchTowersOf(config);
  for (size_t g = 0; g < plan.groups.size(); ++g) {
    const Group& group = plan.groups[g];
    if (group.features.size() < 2) continue;
    const MatchTower* tower = FindTower(towers, group.name);
    dropouts_[g] = std::make_unique<nn::VariationalDropout>(group.feature_dims);
    RegisterModule((tower ? "model." + tower->name : "model") + ".group_variational_dropouts." + group.name,
                   *dropouts_[g]);
  }
}

at::Tensor GroupDropouts::Forward(size_t group, const at::Tensor& x, Predictions& predictions) const {
  const nn::VariationalDropout& dropout = *dropouts_[group];
  if (training()) predictions.penalties.emplace_back(PenaltyName(group), dropout.Penalty(lambda_, x.size(0)));
  return dropout.Forward(x);
}

std::vector<std::string> GroupDropouts::penalty_names() const {
  std::vector<std::string> names;
  for (size_t g = 0; g < dropouts_.size(); ++g) {
    if (dropouts_[g]) names.push_back(PenaltyName(g));
  }
  return names;
}

}  // namespace anneal::models
