// What the lookups of one kind read of a batch: bags of ids, as many for each of them.
#pragma once

#include <vector>

#include "worker/data/batch.h"
#include "worker/embedding/table_batch.h"
#include "worker/models/embedding_group.h"

namespace anneal::embedding {

/// Lookups of bag tables, which give the pooled matrix, or of sequence tables, which give the element matrix.
enum class LookupKind { kPooled, kElements };

inline LookupKind KindOf(const models::Table& table) {
  return table.sequence ? LookupKind::kElements : LookupKind::kPooled;
}

struct LookupInput {
  int64_t rows = 0;                      ///< bags of every lookup
  std::vector<Jagged> lookups;           ///< by EmbeddingPlan::lookups; those of the other kind are empty
  std::vector<int64_t> offsets, values;  ///< that some of them point into
};

/// Pooled: a bag a row of the batch. Elements: see models::Lookup; lookups with fewer bags than the most get empty
/// ones. `out` points into the batch and reuses what it has allocated.
void TakeInput(const models::EmbeddingPlan& plan, LookupKind kind, const data::Batch& batch, LookupInput& out);

}  // namespace anneal::embedding
