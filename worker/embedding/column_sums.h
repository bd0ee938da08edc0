// Sums of row statistics over the column shards of a table, for optimizers that need a whole row (row-wise Adagrad,
// partial row-wise Adam and LAMB, LAMB, LARS).
//
// The column shards of a block of rows see the same ids in the same order, so they touch the same rows in the same
// order: each sends its numbers to the others and adds up what it gets in the order of the columns. All get the same
// sums, bit for bit, and a table cut into columns is trained as a whole one is.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "worker/dist/process_group.h"
#include "worker/embedding/sharding_plan.h"
#include "worker/embedding/table_batch.h"

namespace anneal::embedding {

class ColumnSums {
 public:
  /// `placements` of the plan's tables; those that `trained` does not name take no part. `local_index`: per table of
  /// the plan its index in this rank's TableBatch, -1 when it is not here.
  ColumnSums(const std::vector<TablePlacement>& placements, const std::vector<bool>& trained,
             const std::vector<int>& local_index, dist::ProcessGroup& group);

  /// Whether any table is cut into columns.
  bool needed() const { return !links_.empty(); }

  /// A collective of all ranks; `sums` of this rank's column shards become those of whole rows.
  void Add(std::span<const ShardRowSums> sums);

 private:
  /// Two shards of the same rows of a table on different ranks.
  struct Link {
    int from = 0, to = 0;  ///< ranks
    int table = 0;         ///< local index, when this rank is one of the two
    int from_column = 0, to_column = 0;
  };
  std::vector<Link> links_;      ///< in one order on all ranks
  std::vector<int> own_column_;  ///< by local index: this rank's block of columns
  dist::ProcessGroup& group_;
};

}  // namespace anneal::embedding
