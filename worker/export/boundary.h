// Where an export is cut in two: everything up to the lookups is "sparse", the rest "dense" (parity/export.md 5).
#pragma once

#include <string>

#include "worker/models/embedding_group.h"

namespace anneal::exporting {

/// Names of the tensors that cross the cut: "<group>__<group>...__ebc" [B, pooled_width], pooled embeddings in the
/// order of the plan's lookups, and "...__dense" [B, dense_width], raw dense features. Both float32.
struct Boundary {
  std::string pooled, dense;
};

Boundary BoundaryOf(const models::EmbeddingPlan& plan);

}  // namespace anneal::exporting
