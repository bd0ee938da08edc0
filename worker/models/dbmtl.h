// Deep Bayesian multi-task learning. Wang et al., "Deep Bayesian Multi-Target Learning for Recommender Systems", 2019;
// parity/models.md 10.3.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/task_chain.h"
#include "worker/nn/mask_net.h"

namespace anneal::models {

/// First group -> optional MaskNet -> tasks (task_chain.h), of which one with a relation MLP reads its own vector and
/// those of the tasks that it is related to. State names: mask_net, relation_mlps.<tower>.
class Dbmtl : public TaskChain {
 public:
  explicit Dbmtl(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  at::Tensor Join(size_t t, const std::vector<at::Tensor>& vectors) override;

  std::string group_;
  std::unique_ptr<nn::MaskNet> mask_net_;
  std::vector<std::unique_ptr<nn::Mlp>> relation_mlps_;  ///< of each task; null: it has none
};

}  // namespace anneal::models
