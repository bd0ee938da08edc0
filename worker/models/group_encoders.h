// The sequence encoders of DEEP groups (parity/models.md 2.1, 5).
#pragma once

#include <memory>
#include <vector>

#include "worker/models/embedding_group.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::models {

/// State names "<Group::module>._group_name_to_seq_encoders.<group>.<i>....", complete.
class GroupEncoders : public nn::Module {
 public:
  explicit GroupEncoders(const EmbeddingPlan& plan);

  /// Group `index` of the plan: its features [B, Group::assembled_width] with its encoders' outputs behind them,
  /// [B, Group::width]. `sequences` of the plan's sequence groups.
  at::Tensor Encode(size_t index, const at::Tensor& features, const std::vector<nn::Sequence>& sequences);

 private:
  const EmbeddingPlan& plan_;
  std::vector<std::vector<std::unique_ptr<nn::SequenceEncoder>>> encoders_;  ///< per group
};

}  // namespace anneal::models
