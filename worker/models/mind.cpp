#include "worker/models/mind.h"

#include <ATen/ATen.h>

#include <limits>

#include "worker/nn/unit_length.h"

namespace anneal::models {
namespace {

/// All but the last of the layers, which is a linear one of its own without an activation; null when there are none.
std::unique_ptr<nn::Mlp> AllButLast(int64_t in, tzrec::protos::MLP config, bool bias, nn::Rows rows) {
  config.mutable_hidden_units()->RemoveLast();
  if (config.hidden_units_size() == 0) return nullptr;
  if (config.dropout_ratio_size() > 1) config.mutable_dropout_ratio()->Truncate(1);
  config.set_bias(bias);
  config.clear_use_ln();
  return std::make_unique<nn::Mlp>(in, config, rows);
}

}  // namespace

InterestTower::InterestTower(const ModelInput& input, const tzrec::protos::MIND& config)
    : group_(config.user_tower().input()),
      history_(config.user_tower().history_input()),
      cosine_(config.similarity() == tzrec::protos::COSINE) {
  const auto& tower = config.user_tower();
  const auto last = [](const tzrec::protos::MLP& mlp) { return mlp.hidden_units(mlp.hidden_units_size() - 1); };
  const int64_t user = input.RequireGroup(group_).width;
  user_mlp_ = AllButLast(user, tower.user_mlp(), /*bias=*/true, nn::Rows::kBatch);
  if (user_mlp_) RegisterModule("user_mlp", *user_mlp_);
  user_out_ = std::make_unique<nn::Linear>(user_mlp_ ? user_mlp_->output_dim() : user, last(tower.user_mlp()));
  RegisterModule("user_mlp_out", *user_out_);
  int64_t history = input.RequireSequenceGroup(history_).sequence_width;
  if (tower.has_hist_seq_mlp()) {
    history_mlp_ = AllButLast(history, tower.hist_seq_mlp(), /*bias=*/false, nn::Rows::kPositions);
    if (history_mlp_) RegisterModule("_hist_seq_mlp", *history_mlp_);
    history_out_ = std::make_unique<nn::Linear>(history_mlp_ ? history_mlp_->output_dim() : history,
                                                last(tower.hist_seq_mlp()), /*bias=*/false);
    RegisterModule("_hist_seq_mlp_out", *history_out_);
    history = last(tower.hist_seq_mlp());
  }
  capsules_ = std::make_unique<nn::CapsuleLayer>(history, tower.capsule_config());
  RegisterModule("_capsule_layer", *capsules_);
  concat_mlp_ = std::make_unique<nn::Mlp>(last(tower.user_mlp()) + tower.capsule_config().high_dim(),
                                          tower.concat_mlp(), nn::Rows::kPositions);
  RegisterModule("_concat_mlp", *concat_mlp_);
  if (config.output_dim() > 0) {
    output_ = std::make_unique<nn::Linear>(concat_mlp_->output_dim(), config.output_dim(), /*bias=*/false);
    RegisterModule("output", *output_);
  }
}

InterestTower::Interests InterestTower::Forward(const Groups& groups) {
  at::Tensor user = groups.at(group_);
  user = user_out_->Forward(user_mlp_ ? user_mlp_->Forward(user) : user);
  nn::Sequence history = groups.sequence(history_);
  if (history_out_) {
    const at::Tensor positions = history.sequence.flatten(0, 1);
    const at::Tensor out = history_out_->Forward(history_mlp_ ? history_mlp_->Forward(positions) : positions);
    history.sequence = out.view_as(history.mask.unsqueeze(2).expand({-1, -1, out.size(1)}));
  }
  const auto [capsules, active] = capsules_->Forward(history);
  const int64_t most = capsules.size(1);
  const at::Tensor mask = active.unsqueeze(2).to(capsules.scalar_type());
  const at::Tensor both = at::cat({user.unsqueeze(1).expand({-1, most, -1}), capsules}, 2) * mask;
  at::Tensor vectors = concat_mlp_->Forward(both.flatten(0, 1)).unflatten(0, {-1, most}) * mask;
  if (output_) vectors = output_->Forward(vectors);
  return {cosine_ ? nn::UnitLength(vectors) : vectors, active};
}

Mind::Mind(const ModelInput& input)
    : MatchModel(input, input.config.mind().temperature(), input.config.mind().in_batch_negative()),
      power_(input.config.mind().simi_pow()) {
  const auto& config = input.config.mind();
  if (input.tower != "item_tower") {
    user_ = std::make_unique<InterestTower>(input, config);
    RegisterModule("user_tower", *user_);
  }
  item_ = MakeTower(input, "item_tower", {config.item_tower().input()}, config.item_tower().mlp(), config.output_dim(),
                    config.similarity());
}

std::vector<at::Tensor> Mind::Forward(const Groups& groups) {
  if (!user_) return {item_->Forward(groups)};
  const auto [vectors, active] = user_->Forward(groups);
  if (!item_) return {vectors};
  const at::Tensor items = item_->Forward(groups);
  const at::Tensor own = items.narrow(0, 0, vectors.size(0)).unsqueeze(1);
  const at::Tensor scores =
      ((vectors * own).sum(2) * power_).masked_fill(active.logical_not(), -std::numeric_limits<float>::infinity());
  const at::Tensor users = (at::softmax(scores, 1).unsqueeze(2) * vectors).sum(1);
  return {Similarity(users, items, groups.sampled)};
}

}  // namespace anneal::models
