// DLRM. Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019.
// parity/models.md 9.
#pragma once

#include <memory>

#include "worker/models/dense_sparse_fields.h"
#include "worker/models/model.h"
#include "worker/nn/mlp.h"

namespace anneal::models {

/// x0 = dense_mlp(dense), the fields are [x0, sparse...]: output(MLP([dot products of all pairs, x0, sparse...])), the
/// last without `arch_with_sparse` left out. Without a `dense` group there is no x0.
class Dlrm : public Model {
 public:
  explicit Dlrm(const ModelInput& input);
  std::vector<at::Tensor> Forward(const Groups& groups) override;

 private:
  DenseSparseFields input_;
  int64_t copied_fields_;  ///< the first of the fields, which the MLP reads as they are
  std::unique_ptr<nn::Mlp> final_;
  std::unique_ptr<nn::Linear> output_;
};

}  // namespace anneal::models
