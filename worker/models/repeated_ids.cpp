#include "worker/models/repeated_ids.h"

#include "worker/nn/arithmetic.h"

namespace anneal::models {

nn::RepeatedRows RepeatedRowsOf(const EmbeddingPlan& plan, const Group& group, const RepeatedIds& ids) {
  const auto& arithmetic = nn::Arithmetic::OfProcess();
  std::vector<nn::RepeatedColumns> columns;
  int64_t at = 0, rows = 0;
  for (const Block& block : group.blocks) {
    for (const Lookup& lookup : plan.lookups) {
      if (!block.pooled || plan.tables[lookup.table].sequence) continue;
      if (lookup.column < block.column || lookup.column >= block.column + block.width) continue;
      const auto& of = ids.features[lookup.feature];
      rows = static_cast<int64_t>(of.of_row.size());
      if (!arithmetic.PaysToRepeat(lookup.dim, static_cast<int64_t>(of.holder.size()), rows)) continue;
      columns.push_back({at + lookup.column - block.column, lookup.dim, &of.of_row, &of.holder});
    }
    at += block.width;
  }
  return nn::JoinColumns(std::move(columns), rows);
}

}  // namespace anneal::models
