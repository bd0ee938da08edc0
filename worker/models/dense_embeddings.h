// The dense features that groups have as vectors: the modules of the plan's EmbeddedFeatures (parity/models.md 2.4, 3).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/models/embedding_group.h"
#include "worker/nn/dense_embedding.h"

namespace anneal::models {

/// State names "<EmbeddedFeatures::state_name>.<parameter>", complete.
class DenseEmbeddings : public nn::Module {
 public:
  explicit DenseEmbeddings(const EmbeddingPlan& plan);

  /// dense [B, dense_width] -> [B, embedded_width]; undefined where that is 0.
  at::Tensor Forward(const at::Tensor& dense) const;

  /// The parameters as checkpoints hold them, one for each feature: "<state name>.meta_emb_<feature>.weight". They
  /// share the parameters' memory.
  std::vector<nn::NamedTensor> StoredParameters() const;

 private:
  const EmbeddingPlan& plan_;
  std::vector<std::unique_ptr<nn::DenseEmbedding>> layers_;  ///< of EmbeddingPlan::embedded
};

}  // namespace anneal::models
