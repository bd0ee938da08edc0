// Where an export is cut in two: everything up to the lookups is "sparse", the rest "dense" (parity/export.md 5).
#pragma once

#include <string>
#include <vector>

#include "worker/models/embedding_group.h"

namespace anneal::exporting {

/// Names of the tensors that cross the cut: "<group>__<group>...__ebc" [B, pooled_width], pooled embeddings in the
/// order of the plan's lookups, "...__dense" [B, dense_width], raw dense features, both float32 and only there when
/// they have a column; and of each sequence group what nn::Sequence is, but for the mask, which follows from the
/// others.
struct Boundary {
  struct Sequence {
    std::string query;     ///< "<group>__query"; empty when the group has no query feature
    std::string sequence;  ///< "<group>__sequence"; empty when it has no sequence feature
    std::string length;    ///< "<group>__sequence_length"; likewise
  };
  std::string pooled, dense;
  std::vector<Sequence> sequences;  ///< of EmbeddingPlan::sequence_groups
};

Boundary BoundaryOf(const models::EmbeddingPlan& plan);

}  // namespace anneal::exporting
