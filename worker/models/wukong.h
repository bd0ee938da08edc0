// WuKong. Zhang et al., "Wukong: Towards a Scaling Law for Large-Scale Recommendation", ICML 2024. parity/models.md 9.
#pragma once

#include <memory>
#include <vector>

#include "worker/models/dense_sparse_fields.h"
#include "worker/models/model.h"
#include "worker/nn/mlp.h"
#include "worker/nn/wukong_layer.h"

namespace anneal::models {

/// The fields [dense_mlp(dense), sparse...] through the layers: output(MLP(all fields side by side)).
class WuKong : public Model {
 public:
  explicit WuKong(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  DenseSparseFields input_;
  std::vector<std::unique_ptr<nn::WuKongLayer>> layers_;
  std::unique_ptr<nn::Mlp> final_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
