// xDeepFM. Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems", KDD
// 2018. parity/models.md 9.
#pragma once

#include <memory>

#include "worker/models/model.h"
#include "worker/nn/cin.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// Groups `wide` (WIDE, tables `wide_embedding_dim` wide) and `deep`: output(MLP([CIN(wide), MLP(deep)])). The paper's
/// linear term is left out.
class XDeepFm : public Model {
 public:
  explicit XDeepFm(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::unique_ptr<nn::Cin> cin_;
  std::unique_ptr<nn::Mlp> deep_, final_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
