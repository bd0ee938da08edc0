#include "worker/models/repeated_ids.h"

#include "worker/models/group_assembly.h"
#include "worker/nn/arithmetic.h"

namespace anneal::models {

nn::RepeatedRows RepeatedRowsOf(const EmbeddingPlan& plan, const Group& group, const RepeatedIds& ids) {
  const auto& arithmetic = nn::Arithmetic::OfProcess();
  std::vector<nn::RepeatedColumns> columns;
  int64_t rows = 0, width = 0;
  ForEachLookup(plan, group, [&](size_t l, int64_t column) {
    const Lookup& lookup = plan.lookups[l];
    const auto& of = ids.features[lookup.feature];
    rows = static_cast<int64_t>(of.of_row.size());
    if (!arithmetic.PaysToRepeat(lookup.dim, static_cast<int64_t>(of.holder.size()), rows)) return;
    columns.push_back({column, lookup.dim, &of.of_row, &of.holder});
    width += lookup.dim;
  });
  // The other columns have to be copied apart.
  if (2 * width < group.width) return {};
  return nn::JoinColumns(std::move(columns), rows);
}

}  // namespace anneal::models
