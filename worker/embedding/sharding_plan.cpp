#include "worker/embedding/sharding_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "worker/config/error.h"

namespace anneal::embedding {
namespace {

using tzrec::protos::ParameterConstraints;

std::optional<ShardingType> ParseType(const std::string& name) {
  if (name == "table_wise") return ShardingType::kTableWise;
  if (name == "row_wise") return ShardingType::kRowWise;
  if (name == "data_parallel") return ShardingType::kDataParallel;
  return std::nullopt;
}

std::string Join(const auto& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

bool Holds(const auto& names, const char* name) { return std::find(names.begin(), names.end(), name) != names.end(); }

/// The first type of the constraint that is supported, data-parallel last; table-wise when it names none.
ShardingType ChooseType(const PlannedTable& table, const ParameterConstraints& constraints) {
  const auto& kernels = constraints.compute_kernels();
  if (!kernels.empty() && !Holds(kernels, "fused")) {
    if (Holds(kernels, "dense")) return ShardingType::kDataParallel;
    throw ConfigError("table '" + table.name + "': compute_kernels [" + Join(kernels) +
                      "]: only 'fused' and 'dense' are supported yet");
  }
  const auto& types = constraints.sharding_types();
  if (types.empty()) return ShardingType::kTableWise;
  for (const auto& name : types) {
    const auto type = ParseType(name);
    if (type && *type != ShardingType::kDataParallel) return *type;
  }
  if (Holds(types, "data_parallel")) return ShardingType::kDataParallel;
  throw ConfigError("table '" + table.name + "': sharding_types [" + Join(types) +
                    "]: only table_wise, row_wise and data_parallel are supported yet");
}

}  // namespace

std::string ShardingTypeName(ShardingType type) {
  switch (type) {
    case ShardingType::kTableWise:
      return "table_wise";
    case ShardingType::kRowWise:
      return "row_wise";
    case ShardingType::kDataParallel:
      return "data_parallel";
  }
  return "";
}

RowRange RowWiseShard(int64_t rows, int shards, int position) {
  const int64_t block = (rows + shards - 1) / shards;
  return {std::min(rows, block * position), std::min(rows, block * (position + 1))};
}

std::vector<TablePlacement> PlanTables(const std::vector<PlannedTable>& tables, const ParameterConstraints& global,
                                       int world_size) {
  std::vector<TablePlacement> placements(tables.size());
  std::vector<size_t> order(tables.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return tables[a].rows * tables[a].dim > tables[b].rows * tables[b].dim; });
  std::vector<int64_t> load(world_size, 0);
  for (size_t i : order) {
    const bool own =
        tables[i].constraints.sharding_types_size() > 0 || tables[i].constraints.compute_kernels_size() > 0;
    placements[i].type = ChooseType(tables[i], own ? tables[i].constraints : global);
    if (placements[i].type != ShardingType::kTableWise) {
      placements[i].ranks.resize(world_size);
      std::iota(placements[i].ranks.begin(), placements[i].ranks.end(), 0);
      continue;
    }
    const auto least = std::min_element(load.begin(), load.end());
    *least += tables[i].rows * tables[i].dim;
    placements[i].ranks = {static_cast<int>(least - load.begin())};
  }
  return placements;
}

nlohmann::json PlanToJson(const std::string& module, const std::vector<PlannedTable>& tables,
                          const std::vector<TablePlacement>& placements) {
  nlohmann::json entries = nlohmann::json::object();
  for (size_t i = 0; i < tables.size(); ++i) {
    entries[tables[i].name] = {{"sharding_type", ShardingTypeName(placements[i].type)},
                               {"compute_kernel", placements[i].dense() ? "dense" : "fused"},
                               {"ranks", placements[i].ranks}};
  }
  return {{module, entries}};
}

std::vector<TablePlacement> PlanFromJson(const nlohmann::json& plan, const std::vector<PlannedTable>& tables,
                                         int world_size, const std::string& where) {
  std::vector<TablePlacement> placements;
  for (const PlannedTable& table : tables) {
    const nlohmann::json* entry = nullptr;
    if (plan.is_object()) {
      for (const auto& [module, entries] : plan.items()) {
        if (entries.is_object() && entries.contains(table.name)) entry = &entries.at(table.name);
      }
    }
    const std::string at = where + ": table '" + table.name + "'";
    if (!entry) throw ConfigError(at + " is missing");
    if (!entry->is_object() || !entry->value("sharding_type", nlohmann::json()).is_string()) {
      throw ConfigError(at + ": sharding_type is missing");
    }
    const std::string name = entry->at("sharding_type").get<std::string>();
    const auto type = ParseType(name);
    const auto kernel = entry->value("compute_kernel", nlohmann::json("fused"));
    if (!type || (kernel != "fused" && kernel != "dense")) {
      throw ConfigError(at + ": sharding_type '" + name + "' with compute_kernel " + kernel.dump() +
                        ": only table_wise and row_wise with 'fused', data_parallel and 'dense' are supported yet");
    }
    if (*type == ShardingType::kDataParallel || kernel == "dense") {
      TablePlacement everywhere{ShardingType::kDataParallel, std::vector<int>(world_size)};
      std::iota(everywhere.ranks.begin(), everywhere.ranks.end(), 0);
      placements.push_back(std::move(everywhere));
      continue;
    }
    TablePlacement placement{*type, {}};
    for (const auto& rank : entry->value("ranks", nlohmann::json::array())) {
      if (!rank.is_number_integer() || rank.get<int64_t>() < 0 || rank.get<int64_t>() >= world_size) {
        throw ConfigError(at + ": rank " + rank.dump() + " is not one of the " + std::to_string(world_size) +
                          " of this run");
      }
      placement.ranks.push_back(rank.get<int>());
    }
    const size_t expected = *type == ShardingType::kTableWise ? 1 : static_cast<size_t>(world_size);
    if (placement.ranks.size() != expected) {
      throw ConfigError(at + ": " + name + " over " + std::to_string(world_size) + " ranks needs " +
                        std::to_string(expected) + " ranks, the plan lists " + std::to_string(placement.ranks.size()));
    }
    placements.push_back(std::move(placement));
  }
  return placements;
}

}  // namespace anneal::embedding
