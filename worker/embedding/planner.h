// Chooses where the tables live: the cheapest plan that fits (parity/train.md 16).
#pragma once

#include <string>
#include <vector>

#include "worker/embedding/sharding_cost.h"

namespace anneal::embedding {

struct Plan {
  std::vector<TablePlacement> placements;  ///< one per table
  std::vector<double> memory;              ///< per rank, bytes of tables
  std::vector<double> milliseconds;        ///< per rank and step
};

/// Placements that a table's constraints allow. Its own constraints count, else `global`; no sharding_types: all but
/// grid_shard and data_parallel (the dense optimizer trains only what is told to it); no compute_kernels: "dense" for
/// data-parallel tables, "fused" for the others. Types that come to the same on this layout are listed once. Throws
/// ConfigError "No available sharding type and compute kernel combination" when nothing is left.
std::vector<ShardingType> AllowedTypes(const PlannedTable& table, const tzrec::protos::ParameterConstraints& global,
                                       const RankLayout& layout);

/// The plan whose slowest rank is fastest among those that fit into every rank's memory. The same input gives the same
/// plan, so ranks that agree on the input need not exchange it. Throws ConfigError that explains, table by table, what
/// does not fit.
Plan PlanTables(const std::vector<PlannedTable>& tables, const tzrec::protos::ParameterConstraints& global,
                const Hardware& hardware, const Workload& workload);

/// Memory and time of given placements.
Plan CostOfPlan(const std::vector<PlannedTable>& tables, std::vector<TablePlacement> placements,
                const Hardware& hardware, const Workload& workload);

/// The plan as a table, line by line: table, size, sharding, kernel, ranks, memory, cost; then the ranks' sums.
std::vector<std::string> PlanLines(const std::vector<PlannedTable>& tables, const Plan& plan, const Hardware& hardware,
                                   const Workload& workload);

}  // namespace anneal::embedding
