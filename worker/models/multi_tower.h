// Towers over feature groups side by side, with or without target attention over sequences; parity/models.md 9.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/models/model.h"
#include "worker/nn/din.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// multi_tower and multi_tower_din: output(MLP([MLP of each tower's group..., DIN of each SEQUENCE group...])).
/// State names: towers.<group>, din_towers.<i>, final_mlp, output_mlp.
class MultiTower : public Model {
 public:
  explicit MultiTower(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  /// With their groups' names.
  std::vector<std::pair<std::string, std::unique_ptr<nn::Mlp>>> towers_;
  std::vector<std::pair<std::string, std::unique_ptr<nn::Din>>> din_towers_;
  std::unique_ptr<nn::Mlp> final_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
