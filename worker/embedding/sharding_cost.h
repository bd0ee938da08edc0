// What a placement costs: memory and time per rank. The model of the planner (parity/train.md 16).
//
// Per step a rank reads its share of the ids, the rows that they name and writes pooled rows, at the bandwidth of its
// memory; the backward pass moves twice as much. Ids, pooled rows and gradients that belong to other ranks travel at
// the bandwidth within a host or between hosts. Tables of the dense optimizer are read and written whole in every step,
// and their gradients are all-reduced.
#pragma once

#include <string>
#include <vector>

#include "worker/embedding/sharding_plan.h"
#include "worker/embedding/table_batch.h"

namespace anneal::embedding {

/// Bytes and bytes per millisecond.
struct Hardware {
  RankLayout layout;
  double memory = 0;  ///< of one rank
  double memory_bandwidth = 51.0 * (1 << 30) / 1000;
  double intra_node_bandwidth = 600.0 * (1 << 30) / 1000;  ///< INTRA_NODE_BANDWIDTH
  double cross_node_bandwidth = 12.5 * (1 << 30) / 1000;   ///< CROSS_NODE_BANDWIDTH
  double storage_reserve = 0.15;                           ///< STORAGE_RESERVE_PERCENT: share of memory kept free

  /// From the environment; memory is the host's, or the control group's when that is less, divided by the local ranks.
  /// Throws ConfigError naming a variable that is not a number in its range.
  static Hardware OfThisHost(const RankLayout& layout);
};

/// What a step brings.
struct Workload {
  int64_t batch_size = 512;  ///< of one rank
  OptimizerType optimizer = OptimizerType::kSgd;
  double dense_parameter_bytes = 0;  ///< of the network, the tables not among them
  double input_bytes = 0;            ///< of one batch
};

/// Memory that tables must not take: the reserve, 6 times the dense parameters, 20 times a batch's input.
double ReservedMemory(const Hardware& hardware, const Workload& workload);

struct ShardCost {
  double memory = 0;        ///< bytes: weights, optimizer state, bookkeeping, buffers of a step
  double milliseconds = 0;  ///< per step
};

/// Cost of a table's shard at ranks[position] of the placement.
ShardCost CostOf(const PlannedTable& table, const TablePlacement& placement, int position, const Hardware& hardware,
                 const Workload& workload);

/// "1.50 GiB", "12.00 MiB".
std::string MemoryText(double bytes);

}  // namespace anneal::embedding
