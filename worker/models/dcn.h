// Deep & Cross networks: explicit feature crosses beside or before an MLP. parity/models.md 9.
#pragma once

#include <memory>

#include "worker/models/model.h"
#include "worker/nn/cross.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// The first group x: output(final([Cross(x), MLP(x)])); the output has no bias. Wang et al., "Deep & Cross Network for
/// Ad Click Predictions", ADKDD 2017.
class DcnV1 : public Model {
 public:
  explicit DcnV1(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string group_;
  std::unique_ptr<nn::Cross> cross_;
  std::unique_ptr<nn::Mlp> deep_, final_;
  std::unique_ptr<nn::Linear> output_;
};

/// The first group x; h = backbone(x), or x without one. output(final([CrossV2(h), deep(x)])), `deep` being optional;
/// the output has no bias. Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale
/// Learning to Rank Systems", WWW 2021.
class DcnV2 : public Model {
 public:
  explicit DcnV2(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  std::string group_;
  std::unique_ptr<nn::Mlp> backbone_, deep_, final_;
  std::unique_ptr<nn::CrossV2> cross_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
