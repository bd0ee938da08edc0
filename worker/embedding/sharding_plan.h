// Where the rows of each table live: the plan file of a checkpoint, `--sharding_plan FILE`, and the simple planner.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tzrec/train.pb.h"

namespace anneal::embedding {

enum class ShardingType { kTableWise, kRowWise, kDataParallel };

/// Name in plan files and constraints: "table_wise", "row_wise", "data_parallel".
std::string ShardingTypeName(ShardingType type);

struct TablePlacement {
  ShardingType type = ShardingType::kTableWise;
  std::vector<int> ranks;  ///< table-wise: the owner; row-wise: all ranks, in shard order; data-parallel: all ranks
  /// Data-parallel tables are whole on every rank (compute kernel "dense"): they get dense gradients over all rows,
  /// averaged like any dense parameter's, and the DENSE optimizer trains them. The others are "fused".
  bool dense() const { return type == ShardingType::kDataParallel; }
};

/// What the planner has to know of a table.
struct PlannedTable {
  std::string name;
  int64_t rows = 0, dim = 0;
  tzrec::protos::ParameterConstraints constraints;  ///< empty: global constraints, then the planner's choice
};

/// Rows of shard `position` of a row-wise table over `shards` ranks: blocks of ceil(rows/shards).
struct RowRange {
  int64_t begin = 0, end = 0;
};
RowRange RowWiseShard(int64_t rows, int shards, int position);

/// One placement per table. Largest tables first to the least loaded rank (table-wise); a table whose constraint names
/// row_wise is split over all ranks. A table whose constraint allows nothing but the kernel "dense" or data_parallel is
/// data-parallel: what the sparse optimizer can train, it trains. Throws ConfigError when a constraint leaves nothing
/// that is supported.
std::vector<TablePlacement> PlanTables(const std::vector<PlannedTable>& tables,
                                       const tzrec::protos::ParameterConstraints& global, int world_size);

/// {module path: {table: {sharding_type, compute_kernel, ranks}}} (parity/train.md 5).
nlohmann::json PlanToJson(const std::string& module, const std::vector<PlannedTable>& tables,
                          const std::vector<TablePlacement>& placements);

/// Reads that format; every table of `tables` has to be in it. `where` names the file in errors.
std::vector<TablePlacement> PlanFromJson(const nlohmann::json& plan, const std::vector<PlannedTable>& tables,
                                         int world_size, const std::string& where);

}  // namespace anneal::embedding
