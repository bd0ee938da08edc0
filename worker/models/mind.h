// Multi-Interest Network with Dynamic routing (Li et al., CIKM 2019); parity/models.md 11.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/match_model.h"
#include "worker/nn/capsule.h"

namespace anneal::models {

/// A user's features and history to one vector for each interest. State names: user_mlp, user_mlp_out, _hist_seq_mlp,
/// _hist_seq_mlp_out, _capsule_layer, _concat_mlp, output.
class InterestTower : public nn::Module {
 public:
  InterestTower(const ModelInput& input, const tzrec::protos::MIND& config);

  struct Interests {
    at::Tensor vectors;  ///< [B, max_k, D], zeros of those that are not active
    at::Tensor active;   ///< [B, max_k] bool
  };
  Interests Forward(const Groups& groups);

 private:
  const std::string group_, history_;
  const bool cosine_;
  std::unique_ptr<nn::Mlp> user_mlp_, history_mlp_, concat_mlp_;
  std::unique_ptr<nn::Linear> user_out_, history_out_, output_;
  std::unique_ptr<nn::CapsuleLayer> capsules_;
};

/// In training a user is the sum of its interests, weighted by softmax(simi_pow * their similarity with the row's
/// item); the user tower alone gives all of them.
class Mind : public MatchModel {
 public:
  explicit Mind(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  const double power_;
  std::unique_ptr<InterestTower> user_;
  std::unique_ptr<VectorTower> item_;
};

}  // namespace anneal::models
