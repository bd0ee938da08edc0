#include "worker/embedding/lookup_input.h"

#include <algorithm>
#include <numeric>

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

/// A feature's elements, a bag each; returns how many.
int64_t FillElements(const int64_t* of_rows, int64_t rows, int64_t* offsets) {
  const int64_t elements = of_rows[rows] - of_rows[0];
  std::iota(offsets, offsets + elements + 1, of_rows[0]);
  return elements;
}

/// The first id of each row that has any, copied to `values`, whose capacity holds them.
void FillFirst(const data::Batch& batch, const int64_t* of_rows, std::vector<int64_t>& values, int64_t* offsets) {
  const auto begin = static_cast<int64_t>(values.size());
  for (int64_t b = 0; b < batch.rows; ++b) {
    offsets[b] = static_cast<int64_t>(values.size()) - begin;
    if (of_rows[b] < of_rows[b + 1]) values.push_back(batch.sparse.values[of_rows[b]]);
  }
  offsets[batch.rows] = static_cast<int64_t>(values.size()) - begin;
}

void TakeElements(const models::EmbeddingPlan& plan, const data::Batch& batch, LookupInput& out) {
  out.rows = 0;
  out.values.clear();
  if (batch.rows == 0) return;
  std::vector<size_t> mine;
  for (size_t l = 0; l < plan.lookups.size(); ++l) {
    if (!plan.tables[plan.lookups[l].table].sequence) continue;
    out.rows = std::max(out.rows, Bags(plan.lookups[l], batch));
    mine.push_back(l);
  }
  out.offsets.resize(mine.size() * (out.rows + 1));
  out.values.reserve(mine.size() * batch.rows);  // never grows: bags point into it
  int64_t* offsets = out.offsets.data();
  for (const size_t l : mine) {
    const models::Lookup& lookup = plan.lookups[l];
    const int64_t* of_rows = RowOffsets(batch, lookup.feature);
    const int64_t* values = batch.sparse.values.data();
    int64_t bags = batch.rows;
    if (lookup.per_element) {
      bags = FillElements(of_rows, batch.rows, offsets);
    } else if (lookup.first_only) {
      values = out.values.data() + out.values.size();
      FillFirst(batch, of_rows, out.values, offsets);
    } else {
      std::copy_n(of_rows, batch.rows + 1, offsets);
    }
    std::fill(offsets + bags + 1, offsets + out.rows + 1, offsets[bags]);
    out.lookups[l] = {values, offsets, nullptr};
    offsets += out.rows + 1;
  }
}

}  // namespace

void TakeInput(const models::EmbeddingPlan& plan, LookupKind kind, const data::Batch& batch, LookupInput& out) {
  out.lookups.assign(plan.lookups.size(), {});
  if (kind == LookupKind::kPooled) {
    TakePooled(plan, batch, out);
  } else {
    TakeElements(plan, batch, out);
  }
}

}  // namespace anneal::embedding
