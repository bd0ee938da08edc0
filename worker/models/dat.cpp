#include "worker/models/dat.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/nn/unit_length.h"

namespace anneal::models {

Dat::Dat(const ModelInput& input)
    : MatchModel(input, input.config.dat().temperature(), input.config.dat().in_batch_negative()),
      config_(input.config.dat()) {
  const auto make = [&](const char* name, const tzrec::protos::DATTower& tower) {
    auto made = MakeTower(input, name, {tower.input(), tower.augment_input()}, tower.mlp(), config_.output_dim(),
                          config_.similarity());
    const int64_t augmented = input.tower.empty() ? input.RequireGroup(tower.augment_input()).width : 0;
    if (made && augmented > 0 && augmented != made->output_dim()) {
      throw ConfigError("model_config.dat." + std::string(name) + ".augment_input: group '" + tower.augment_input() +
                        "' is " + std::to_string(augmented) + " wide, the towers' vectors, which it learns, " +
                        std::to_string(made->output_dim()));
    }
    return made;
  };
  user_ = make("user_tower", config_.user_tower());
  item_ = make("item_tower", config_.item_tower());
  own_loss_names_ = {"amm_loss_u", "amm_loss_i"};
}

std::vector<at::Tensor> Dat::Forward(const Groups& groups) {
  if (!item_) return {user_->Forward(groups)};
  if (!user_) return {item_->Forward(groups)};
  const at::Tensor users = user_->Forward(groups), items = item_->Forward(groups);
  std::vector<at::Tensor> outputs{Similarity(users, items, groups.sampled)};
  if (training()) {
    const int64_t rows = users.size(0);
    outputs.insert(outputs.end(), {users, items.narrow(0, 0, rows), groups.at(config_.user_tower().augment_input()),
                                   groups.at(config_.item_tower().augment_input()).narrow(0, 0, rows)});
  }
  return outputs;
}

std::vector<at::Tensor> Dat::OwnLosses(const std::vector<at::Tensor>& outputs, const Targets& targets) const {
  const at::Tensor &users = outputs[1], &items = outputs[2], &weights = targets.heads.front().weights;
  const auto loss = [&](const at::Tensor& augmented, const at::Tensor& of_other_tower, double factor) {
    const at::Tensor rows = (nn::UnitLength(augmented.to(at::kFloat)) - of_other_tower.detach()).square().sum(1);
    return factor * (weights.defined() ? (rows * weights).mean() : rows.sum());
  };
  return {loss(outputs[3], items, config_.amm_u_weight()), loss(outputs[4], users, config_.amm_i_weight())};
}

}  // namespace anneal::models
