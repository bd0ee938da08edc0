#include <algorithm>

#include "worker/embedding/planner.h"

namespace anneal::embedding {
namespace {

std::string Milliseconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f ms", value);
  return text;
}

/// "0-3", "0,2": runs of ranks put together.
std::string Ranks(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    text += (text.empty() ? "" : ",") + std::to_string(ranks[i]);
    if (end - i > 1) text += "-" + std::to_string(ranks[end - 1]);
    i = end;
  }
  return text;
}

/// The table's name, with its kind where another table has that name, too ("item_emb (ec_dict.8)"), and with its tower
/// where that is not enough ("item_emb (user_tower ebc)").
std::string Label(const PlannedTable& table, const std::vector<PlannedTable>& tables) {
  const auto kind = [](const PlannedTable& of) { return of.module.substr(of.module.rfind("__.") + 3); };
  const auto count = [&](auto same) { return std::count_if(tables.begin(), tables.end(), same); };
  if (count([&](const auto& other) { return other.name == table.name; }) == 1) return table.name;
  const auto same_kind =
      count([&](const auto& other) { return other.name == table.name && kind(other) == kind(table); });
  const size_t begin = table.module.find('.') + 1;
  const std::string tower = table.module.substr(begin, table.module.find('.', begin) - begin);
  return table.name + " (" + (same_kind > 1 ? tower + " " : "") + kind(table) + ")";
}

/// Columns as wide as their widest cell.
std::vector<std::string> Align(const std::vector<std::vector<std::string>>& cells) {
  std::vector<size_t> widths;
  for (const auto& row : cells) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::vector<std::string> lines;
  for (const auto& row : cells) {
    std::string line = "  ";
    for (size_t c = 0; c < row.size(); ++c) {
      line += row[c];
      if (c + 1 < row.size()) line += std::string(widths[c] - row[c].size() + 2, ' ');
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

std::vector<std::string> PlanLines(const std::vector<PlannedTable>& tables, const Plan& plan, const Hardware& hardware,
                                   const Workload& workload) {
  std::vector<std::vector<std::string>> cells{{"table", "rows x dim", "sharding", "kernel", "ranks", "memory", "cost"}};
  for (size_t t = 0; t < tables.size(); ++t) {
    const TablePlacement& placement = plan.placements[t];
    ShardCost most;  // of the shards
    for (size_t position = 0; position < placement.ranks.size(); ++position) {
      const ShardCost cost = CostOf(tables[t], placement, static_cast<int>(position), hardware, workload);
      most.memory = std::max(most.memory, cost.memory);
      most.milliseconds = std::max(most.milliseconds, cost.milliseconds);
    }
    cells.push_back({Label(tables[t], tables), std::to_string(tables[t].rows) + " x " + std::to_string(tables[t].dim),
                     ShardingTypeName(placement.type), placement.dense() ? "dense" : "fused", Ranks(placement.ranks),
                     MemoryText(most.memory), Milliseconds(most.milliseconds)});
  }
  std::vector<std::string> lines{"Sharding plan of " + std::to_string(tables.size()) + " tables over " +
                                 std::to_string(hardware.layout.world_size) +
                                 " ranks; memory and cost per step are those of the largest shard:"};
  for (auto& line : Align(cells)) lines.push_back(std::move(line));
  cells.clear();
  const double limit = hardware.memory - ReservedMemory(hardware, workload);
  for (size_t r = 0; r < plan.memory.size(); ++r) {
    cells.push_back({"rank " + std::to_string(r),
                     MemoryText(plan.memory[r]) + " of " + MemoryText(std::max(limit, 0.0)),
                     Milliseconds(plan.milliseconds[r])});
  }
  for (auto& line : Align(cells)) lines.push_back(std::move(line));
  return lines;
}

}  // namespace anneal::embedding
