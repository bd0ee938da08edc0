// Rocket launching: a light network trained beside a booster that it learns from and shares its first layers with. Zhou
// et al., "Rocket Launching: A Universal and Efficient Framework for Training Well-performing Light Net", AAAI 2018;
// parity/models.md 9.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// s = share_mlp(first group), or the group. Heads: "_booster" = booster_linear(booster_mlp(s)), in training only, and
/// "_light" = light_linear(light_mlp(s)), whose gradient ends at s. Its own losses, which train the light network
/// alone: with feature_based_distillation "similarity_<i>_<j>" of each layer i of light_mlp and the first layer j of
/// booster_mlp that is as wide, -0.1 mean(cosine of a row's two outputs) or, unless COSINE, sqrt(sum(difference^2));
/// and "hint_l2_loss" = mean((light - booster)^2) of the heads' outputs.
/// State names: share_mlp, booster_mlp, booster_linear, light_mlp, light_linear.
class RocketLaunching : public Model {
 public:
  explicit RocketLaunching(const ModelInput& input);
  /// In training booster, light, then the outputs of the matched layers: light's, booster's, for each match.
  std::vector<at::Tensor> Forward(const Groups& groups) override;
  std::vector<at::Tensor> OwnLosses(const std::vector<at::Tensor>& outputs, const Targets& targets) const override;

 private:
  std::string group_;
  bool cosine_;
  std::vector<std::pair<int, int>> matches_;  ///< layers of light_mlp and booster_mlp
  std::unique_ptr<nn::Mlp> share_, booster_, light_;
  std::unique_ptr<nn::Linear> booster_output_, light_output_;
};

}  // namespace anneal::models
