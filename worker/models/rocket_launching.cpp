#include "worker/models/rocket_launching.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace anneal::models {
namespace {

constexpr double kSimilarityWeight = 0.1;

at::Tensor Distance(const at::Tensor& light, const at::Tensor& booster, bool cosine) {
  const at::Tensor a = light.to(at::kFloat), b = booster.to(at::kFloat);
  return cosine ? at::cosine_similarity(a, b).mean() * -kSimilarityWeight : (a - b).norm();
}

/// Each layer of `light` with the first of `booster` that is as wide.
std::vector<std::pair<int, int>> MatchLayers(const tzrec::protos::MLP& light, const tzrec::protos::MLP& booster) {
  std::vector<std::pair<int, int>> matches;
  const auto& widths = booster.hidden_units();
  for (int i = 0; i < light.hidden_units_size(); ++i) {
    const auto found = std::find(widths.begin(), widths.end(), light.hidden_units(i));
    if (found != widths.end()) matches.emplace_back(i, static_cast<int>(found - widths.begin()));
  }
  return matches;
}

}  // namespace

RocketLaunching::RocketLaunching(const ModelInput& input) {
  const auto& config = input.config.rocket_launching();
  const Group& group = input.FirstGroup();
  group_ = group.name;
  cosine_ = config.feature_distillation_function() == tzrec::protos::COSINE;
  if (config.feature_based_distillation()) matches_ = MatchLayers(config.light_mlp(), config.booster_mlp());
  heads_ = {input.SingleHead(), input.SingleHead()};
  heads_[0].suffix = "_booster";
  heads_[0].only_in_training = true;
  heads_[1].suffix = "_light";
  for (const auto& [i, j] : matches_)
    own_loss_names_.push_back("similarity_" + std::to_string(i) + "_" + std::to_string(j));
  own_loss_names_.push_back("hint_l2_loss");

  int64_t width = group.width;
  if (config.has_share_mlp()) {
    share_ = std::make_unique<nn::Mlp>(width, config.share_mlp());
    RegisterModule("share_mlp", *share_);
    width = share_->output_dim();
  }
  booster_ = std::make_unique<nn::Mlp>(width, config.booster_mlp());
  RegisterModule("booster_mlp", *booster_);
  booster_output_ = std::make_unique<nn::Linear>(booster_->output_dim(), heads_[0].num_class);
  RegisterModule("booster_linear", *booster_output_);
  light_ = std::make_unique<nn::Mlp>(width, config.light_mlp());
  RegisterModule("light_mlp", *light_);
  light_output_ = std::make_unique<nn::Linear>(light_->output_dim(), heads_[1].num_class);
  RegisterModule("light_linear", *light_output_);
}

std::vector<at::Tensor> RocketLaunching::Forward(const Groups& groups) {
  const at::Tensor shared = share_ ? share_->Forward(groups.at(group_)) : groups.at(group_);
  if (!training()) return {at::Tensor(), light_output_->Forward(light_->Forward(shared))};
  const std::vector<at::Tensor> booster = booster_->ForwardLayers(shared),
                                light = light_->ForwardLayers(shared.detach());
  std::vector<at::Tensor> outputs{booster_output_->Forward(booster.back()), light_output_->Forward(light.back())};
  for (const auto& [i, j] : matches_) {
    outputs.push_back(light[i]);
    outputs.push_back(booster[j]);
  }
  return outputs;
}

std::vector<at::Tensor> RocketLaunching::OwnLosses(const std::vector<at::Tensor>& outputs, const Targets&) const {
  std::vector<at::Tensor> losses;
  for (size_t m = 0; m < matches_.size(); ++m) {
    losses.push_back(Distance(outputs[2 + 2 * m], outputs[3 + 2 * m].detach(), cosine_));
  }
  losses.push_back(at::mse_loss(outputs[1].to(at::kFloat), outputs[0].detach().to(at::kFloat)));
  return losses;
}

}  // namespace anneal::models
