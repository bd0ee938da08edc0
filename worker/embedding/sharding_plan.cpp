#include "worker/embedding/sharding_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "worker/config/error.h"

namespace anneal::embedding {
namespace {

constexpr std::pair<ShardingType, const char*> kNames[] = {{ShardingType::kDataParallel, "data_parallel"},
                                                           {ShardingType::kTableWise, "table_wise"},
                                                           {ShardingType::kRowWise, "row_wise"},
                                                           {ShardingType::kColumnWise, "column_wise"},
                                                           {ShardingType::kTableRowWise, "table_row_wise"},
                                                           {ShardingType::kTableColumnWise, "table_column_wise"},
                                                           {ShardingType::kGrid, "grid_shard"}};

constexpr int64_t kColumnStep = 4;  // the CUDA kernels load four columns at a time

struct Block {
  int64_t begin = 0, size = 0;
};

Block BlockOf(int64_t total, int64_t block, int64_t position) {
  const int64_t begin = std::min(total, block * position);
  return {begin, std::min(total, begin + block) - begin};
}

int64_t SteppedWidth(int64_t dim, int64_t blocks) {
  const int64_t even = (dim + blocks - 1) / blocks;
  return (even + kColumnStep - 1) / kColumnStep * kColumnStep;
}

Block ColumnBlock(int64_t dim, int64_t blocks, int64_t position) {
  const int64_t stepped = SteppedWidth(dim, blocks);
  if (stepped * (blocks - 1) < dim) return BlockOf(dim, stepped, position);
  // Too narrow for steps of 4: the first dim % blocks blocks are one column wider.
  const int64_t narrow = dim / blocks, wider = dim % blocks;
  return {narrow * position + std::min(position, wider), narrow + (position < wider ? 1 : 0)};
}

/// The ranks of a plan's entry, checked.
std::vector<int> ReadRanks(const nlohmann::json& entry, const RankLayout& layout, const std::string& at) {
  std::vector<int> ranks;
  std::set<int> seen;
  for (const auto& rank : entry.value("ranks", nlohmann::json::array())) {
    if (!rank.is_number_integer() || rank.get<int64_t>() < 0 || rank.get<int64_t>() >= layout.world_size) {
      throw ConfigError(at + ": rank " + rank.dump() + " is not one of the " + std::to_string(layout.world_size) +
                        " of this run");
    }
    ranks.push_back(rank.get<int>());
    if (!seen.insert(ranks.back()).second) throw ConfigError(at + ": rank " + rank.dump() + " is listed twice");
  }
  return ranks;
}

void NeedRanks(const std::vector<int>& ranks, bool fits, const std::string& need, const std::string& at) {
  if (!fits) {
    throw ConfigError(at + " needs " + need + ", the plan lists " + std::to_string(ranks.size()));
  }
}

TablePlacement ReadPlacement(const nlohmann::json& entry, ShardingType type, const PlannedTable& table,
                             const RankLayout& layout, const std::string& where) {
  TablePlacement placement{type, ReadRanks(entry, layout, where)};
  const std::vector<int>& ranks = placement.ranks;
  const size_t count = ranks.size(), local = static_cast<size_t>(layout.local_world_size);
  const std::string at =
      where + ": " + ShardingTypeName(type) + " over " + std::to_string(layout.world_size) + " ranks";
  switch (type) {
    case ShardingType::kTableWise:
      NeedRanks(ranks, count == 1, "1 rank", at);
      break;
    case ShardingType::kRowWise:
      NeedRanks(ranks, count == static_cast<size_t>(layout.world_size), "all of them", at);
      break;
    case ShardingType::kTableRowWise:
      NeedRanks(ranks, count == local, "the " + std::to_string(local) + " ranks of a host", at);
      break;
    case ShardingType::kColumnWise:
    case ShardingType::kTableColumnWise:
      NeedRanks(ranks, count > 0 && static_cast<int64_t>(count) <= table.dim,
                "1 to " + std::to_string(table.dim) + " ranks, one per block of columns", at);
      placement.column_blocks = static_cast<int>(count);
      break;
    case ShardingType::kGrid:
      NeedRanks(ranks, count > 0 && count % local == 0 && static_cast<int64_t>(count / local) <= table.dim,
                "the " + std::to_string(local) + " ranks of a host per block of columns", at);
      placement.column_blocks = static_cast<int>(count / local);
      break;
    case ShardingType::kDataParallel:
      break;
  }
  return placement;
}

}  // namespace

std::string ShardingTypeName(ShardingType type) {
  for (const auto& [known, name] : kNames) {
    if (known == type) return name;
  }
  return "";
}

std::optional<ShardingType> ParseShardingType(const std::string& name) {
  for (const auto& [type, known] : kNames) {
    if (name == known) return type;
  }
  return std::nullopt;
}

TableShard TablePlacement::Shard(int position, int64_t rows, int64_t dim) const {
  if (dense()) return {0, rows, 0, dim};
  const int64_t height = (rows + row_blocks() - 1) / row_blocks();
  const Block row = BlockOf(rows, height, position % row_blocks());
  const Block column = ColumnBlock(dim, column_blocks, position / row_blocks());
  return {row.begin, row.size, column.begin, column.size};
}

int TablePlacement::PositionOf(int rank) const {
  const auto found = std::find(ranks.begin(), ranks.end(), rank);
  return found == ranks.end() ? -1 : static_cast<int>(found - ranks.begin());
}

int ColumnBlocks(int64_t dim, int most) {
  const int64_t width = SteppedWidth(dim, most);
  return static_cast<int>((dim + width - 1) / width);
}

TablePlacement EverywhereWhole(const RankLayout& layout) {
  TablePlacement placement{ShardingType::kDataParallel, std::vector<int>(layout.world_size)};
  std::iota(placement.ranks.begin(), placement.ranks.end(), 0);
  return placement;
}

nlohmann::json PlanToJson(const std::vector<PlannedTable>& tables, const std::vector<TablePlacement>& placements) {
  nlohmann::json plan = nlohmann::json::object();
  for (size_t i = 0; i < tables.size(); ++i) {
    plan[tables[i].module][tables[i].name] = {{"sharding_type", ShardingTypeName(placements[i].type)},
                                              {"compute_kernel", placements[i].dense() ? "dense" : "fused"},
                                              {"ranks", placements[i].ranks}};
  }
  return plan;
}

const nlohmann::json* FindEntry(const nlohmann::json& plan, const PlannedTable& table,
                                const std::vector<PlannedTable>& tables) {
  const nlohmann::json* elsewhere = nullptr;
  if (!plan.is_object()) return nullptr;
  for (const auto& [module, entries] : plan.items()) {
    if (!entries.is_object() || !entries.contains(table.name)) continue;
    if (module == table.module) return &entries.at(table.name);
    const auto in_it = [&module = module](const PlannedTable& other) { return other.module == module; };
    if (std::none_of(tables.begin(), tables.end(), in_it)) elsewhere = &entries.at(table.name);
  }
  return elsewhere;
}

std::vector<TablePlacement> PlanFromJson(const nlohmann::json& plan, const std::vector<PlannedTable>& tables,
                                         const RankLayout& layout, const std::string& where) {
  std::vector<TablePlacement> placements;
  for (const PlannedTable& table : tables) {
    const nlohmann::json* const entry = FindEntry(plan, table, tables);
    const std::string at = where + ": " + table.label();
    if (!entry) throw ConfigError(at + " is missing");
    if (!entry->is_object() || !entry->value("sharding_type", nlohmann::json()).is_string()) {
      throw ConfigError(at + ": sharding_type is missing");
    }
    const std::string name = entry->at("sharding_type").get<std::string>();
    const auto type = ParseShardingType(name);
    if (!type) throw ConfigError(at + ": sharding_type '" + name + "' is not known");
    const auto kernel = entry->value("compute_kernel", nlohmann::json("fused"));
    if (kernel != "fused" && kernel != "dense") {
      throw ConfigError(at + ": compute_kernel " + kernel.dump() + ": only 'fused' and 'dense' are supported yet");
    }
    const bool dense = *type == ShardingType::kDataParallel || kernel == "dense";
    placements.push_back(dense ? EverywhereWhole(layout) : ReadPlacement(*entry, *type, table, layout, at));
  }
  return placements;
}

}  // namespace anneal::embedding
