// Where the pieces of each table live, and the file that says so: a checkpoint's `plan`, `--sharding_plan FILE`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tzrec/train.pb.h"

namespace anneal::embedding {

/// How many ranks there are, and how many of them share a host: ranks [h * local, (h + 1) * local) are on host h.
struct RankLayout {
  int world_size = 1, local_world_size = 1;
  int hosts() const { return world_size / local_world_size; }
};

/// data_parallel: whole on every rank. table_wise: whole on one. row_wise: rows over all ranks. column_wise: columns
/// over ranks. table_row_wise: rows over the ranks of one host. table_column_wise: columns over ranks of one host.
/// grid_shard: columns over hosts, the rows of each block of columns over that host's ranks.
enum class ShardingType { kDataParallel, kTableWise, kRowWise, kColumnWise, kTableRowWise, kTableColumnWise, kGrid };

/// Name in plan files and constraints (ParameterConstraints.sharding_types).
std::string ShardingTypeName(ShardingType type);
std::optional<ShardingType> ParseShardingType(const std::string& name);

/// The rectangle of a table that a rank holds.
struct TableShard {
  int64_t row_begin = 0, rows = 0;
  int64_t column_begin = 0, columns = 0;
};

struct TablePlacement {
  ShardingType type = ShardingType::kTableWise;
  /// One per shard, no rank twice: blocks of columns one after the other, in each the blocks of rows.
  /// Data-parallel: all ranks.
  std::vector<int> ranks;
  int column_blocks = 1;

  /// Data-parallel tables are whole on every rank (compute kernel "dense"): they get dense gradients over all rows,
  /// averaged like any dense parameter's, and the DENSE optimizer trains them. The others are "fused".
  bool dense() const { return type == ShardingType::kDataParallel; }
  int row_blocks() const { return static_cast<int>(ranks.size()) / column_blocks; }
  /// Shard held by ranks[position] of a table [rows, dim]. Blocks of rows are ceil(rows / blocks) high; blocks of
  /// columns are equally wide, in steps of 4 columns where that leaves no block empty.
  TableShard Shard(int position, int64_t rows, int64_t dim) const;
  /// Position of a rank's shard; -1: it holds none.
  int PositionOf(int rank) const;
};

/// The most blocks of columns, `most` at the most, that `dim` columns make in steps of 4.
int ColumnBlocks(int64_t dim, int most);

/// A data-parallel placement.
TablePlacement EverywhereWhole(const RankLayout& layout);

/// What a plan has to know of a table.
struct PlannedTable {
  std::string module;  ///< models::Table::module_path
  std::string name;
  int64_t rows = 0, dim = 0;
  tzrec::protos::ParameterConstraints constraints;  ///< empty: global constraints, then the planner's choice
  int64_t lookups = 1;                              ///< of a row of the batch: one a feature, of a sequence its length

  /// For messages: towers may have tables of equal names.
  std::string label() const { return "table '" + name + "' of " + module; }
};

/// {module path: {table: {sharding_type, compute_kernel, ranks}}} (parity/train.md 5).
nlohmann::json PlanToJson(const std::vector<PlannedTable>& tables, const std::vector<TablePlacement>& placements);

/// The entry of a table of `tables` in such a plan: of its own module, or of one that none of them is in. Null when
/// there is none.
const nlohmann::json* FindEntry(const nlohmann::json& plan, const PlannedTable& table,
                                const std::vector<PlannedTable>& tables);

/// Reads that format; every table of `tables` has to be in it. `where` names the file in errors.
std::vector<TablePlacement> PlanFromJson(const nlohmann::json& plan, const std::vector<PlannedTable>& tables,
                                         const RankLayout& layout, const std::string& where);

}  // namespace anneal::embedding
