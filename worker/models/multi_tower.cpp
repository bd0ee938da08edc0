#include "worker/models/multi_tower.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/nn/masked_attention.h"

namespace anneal::models {

MultiTower::MultiTower(const ModelInput& input) {
  const auto& plain = input.config.multi_tower();
  const auto& din = input.config.multi_tower_din();
  const bool is_din = input.config.has_multi_tower_din();
  heads_ = {input.SingleHead()};
  int64_t width = 0;
  for (const auto& tower : is_din ? din.towers() : plain.towers()) {
    auto mlp = std::make_unique<nn::Mlp>(input.RequireGroup(tower.input()).width, tower.mlp());
    RegisterModule("towers." + tower.input(), *mlp);
    width += mlp->output_dim();
    towers_.emplace_back(tower.input(), std::move(mlp));
  }
  for (const auto& tower : din.din_towers()) {
    const SequenceGroup& group = input.RequireSequenceGroup(tower.input());
    nn::RequireQuery(group.query_width, group.sequence_width,
                     "model_config.multi_tower_din: group '" + group.name + "'");
    auto attention = std::make_unique<nn::Din>(group.query_width, group.sequence_width, tower.attn_mlp());
    RegisterModule("din_towers." + std::to_string(din_towers_.size()), *attention);
    width += group.sequence_width;
    din_towers_.emplace_back(group.name, std::move(attention));
  }
  if (width == 0) throw ConfigError("model_config: there are no towers");
  final_ = std::make_unique<nn::Mlp>(width, is_din ? din.final() : plain.final());
  RegisterModule("final_mlp", *final_);
  output_ = std::make_unique<nn::Linear>(final_->output_dim(), heads_.front().num_class);
  RegisterModule("output_mlp", *output_);
}

std::vector<at::Tensor> MultiTower::Forward(const Groups& groups) {
  std::vector<at::Tensor> parts;
  for (auto& [group, tower] : towers_) parts.push_back(tower->Forward(groups.at(group)));
  for (auto& [group, tower] : din_towers_) parts.push_back(tower->Forward(groups.sequence(group)));
  return {output_->Forward(final_->Forward(at::cat(parts, 1)))};
}

}  // namespace anneal::models
