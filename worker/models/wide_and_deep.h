// Wide & Deep. Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016. parity/models.md 9.
#pragma once

#include <memory>

#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// Groups `wide` (WIDE) and `deep`. w = sum of the wide columns, d = MLP(deep).
/// With `final`: output(MLP([w, d])); without: w + output(d).
class WideAndDeep : public Model {
 public:
  explicit WideAndDeep(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::unique_ptr<nn::Mlp> deep_, final_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
