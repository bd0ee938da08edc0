// Deep Structured Semantic Model (Huang et al., CIKM 2013); parity/models.md 11.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/match_model.h"

namespace anneal::models {

/// One vector of each tower. State names: user_tower.mlp, user_tower.output, item_tower....
class Dssm : public MatchModel {
 public:
  explicit Dssm(const ModelInput& input) : Dssm(input, input.config.dssm()) {}
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 protected:
  /// `Config`: DSSM or DSSMV2, whose fields are the same.
  template <typename Config>
  Dssm(const ModelInput& input, const Config& config)
      : MatchModel(input, config.temperature(), config.in_batch_negative()),
        user_(MakeTower(input, "user_tower", {config.user_tower().input()}, config.user_tower().mlp(),
                        config.output_dim(), config.similarity())),
        item_(MakeTower(input, "item_tower", {config.item_tower().input()}, config.item_tower().mlp(),
                        config.output_dim(), config.similarity())) {}

 private:
  std::unique_ptr<VectorTower> user_, item_;
};

/// The same with one embedding group for both towers (MatchTower::shares_embeddings).
class DssmV2 : public Dssm {
 public:
  explicit DssmV2(const ModelInput& input) : Dssm(input, input.config.dssm_v2()) {}
};

}  // namespace anneal::models
