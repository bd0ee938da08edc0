#include "worker/embedding/lookup_input.h"

#include <algorithm>

namespace anneal::embedding {
namespace {

/// Offsets of the ids of a sparse feature's rows.
const int64_t* RowOffsets(const data::Batch& batch, int feature) {
  return batch.sparse.offsets.data() + feature * batch.rows;
}

int64_t Bags(const models::Lookup& lookup, const data::Batch& batch) {
  const int64_t* offsets = RowOffsets(batch, lookup.feature);
  return lookup.per_element ? offsets[batch.rows] - offsets[0] : batch.rows;
}

void TakePooled(const models::EmbeddingPlan& plan, const data::Batch& batch, LookupInput& out) {
  out.rows = batch.rows;
  for (size_t l = 0; l < plan.lookups.size(); ++l) {
    const models::Lookup& lookup = plan.lookups[l];
    if (plan.tables[lookup.table].sequence) continue;
    out.lookups[l] = {batch.sparse.values.data(), RowOffsets(batch, lookup.feature),
                      batch.sparse.weights.empty() ? nullptr : batch.sparse.weights.data()};
  }
}

void TakeElements(const models::EmbeddingPlan& plan, const data::Batch& batch, LookupInput& out) {
  out.rows = 0;
  int64_t lookups = 0;
  for (const models::Lookup& lookup : plan.lookups) {
    if (!plan.tables[lookup.table].sequence || batch.rows == 0) continue;
    out.rows = std::max(out.rows, Bags(lookup, batch));
    ++lookups;
  }
  out.offsets.resize(lookups * (out.rows + 1));
  int64_t* offsets = out.offsets.data();
  for (size_t l = 0; l < plan.lookups.size(); ++l) {
    const models::Lookup& lookup = plan.lookups[l];
    if (!plan.tables[lookup.table].sequence || batch.rows == 0) continue;
    const int64_t* of_rows = RowOffsets(batch, lookup.feature);
    const int64_t bags = Bags(lookup, batch);
    for (int64_t b = 0; b <= bags; ++b) offsets[b] = lookup.per_element ? of_rows[0] + b : of_rows[b];
    std::fill(offsets + bags + 1, offsets + out.rows + 1, offsets[bags]);
    out.lookups[l] = {batch.sparse.values.data(), offsets, nullptr};
    offsets += out.rows + 1;
  }
}

}  // namespace

void TakeInput(const models::EmbeddingPlan& plan, LookupKind kind, const data::Batch& batch, LookupInput& out) {
  out.lookups.assign(plan.lookups.size(), {});
  kind == LookupKind::kPooled ? TakePooled(plan, batch, out) : TakeElements(plan, batch, out);
}

}  // namespace anneal::embedding
