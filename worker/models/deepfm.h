// DeepFM. Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017.
// parity/models.md 9.
#pragma once

#include <memory>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// Groups `wide` (WIDE), `deep` and optionally `fm` (else `deep` feeds the FM; all its features of one width).
/// w = sum of the wide columns, v = FM vector, d = MLP(deep).
/// With `final`: output(MLP([w, v, d])); without: w + sum(v) + output(d).
class DeepFm : public Model {
 public:
  explicit DeepFm(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string fm_group_;
  int64_t fm_fields_ = 0, fm_dim_ = 0;
  std::unique_ptr<nn::Mlp> deep_, final_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
