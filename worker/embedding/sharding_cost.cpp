#include "worker/embedding/sharding_cost.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "worker/config/environment.h"

namespace anneal::embedding {
namespace {

constexpr double kIdBytes = 8, kValueBytes = 4;

double HostMemory() {
  double memory = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGE_SIZE));
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    double limit = 0;
    if (std::ifstream(file) >> limit && limit > 0) memory = std::min(memory, limit);  // "max" is not a number
  }
  return memory;
}

/// Numbers of optimizer state per row of `columns` columns.
double StatePerRow(OptimizerType optimizer, double columns) {
  switch (optimizer) {
    case OptimizerType::kSgd:
      return 0;
    case OptimizerType::kRowwiseAdagrad:
      return 1;
    case OptimizerType::kAdagrad:
    case OptimizerType::kLarsSgd:
    case OptimizerType::kRmsprop:
      return columns;
    case OptimizerType::kPartialRowwiseAdam:
    case OptimizerType::kPartialRowwiseLamb:
      return columns + 1;
    case OptimizerType::kAdam:
    case OptimizerType::kLamb:
    case OptimizerType::kAdadelta:
      return 2 * columns;
  }
  return 0;
}

/// Time that `bytes`, spread evenly over all ranks' batches, take to get to or from one rank.
double Travel(double bytes, const Hardware& hardware) {
  const double world = hardware.layout.world_size, local = hardware.layout.local_world_size;
  return bytes * ((local - 1) / world / hardware.intra_node_bandwidth +
                  (world - local) / world / hardware.cross_node_bandwidth);
}

ShardCost DenseCost(const PlannedTable& table, const Hardware& hardware, const Workload& workload) {
  const double elements = static_cast<double>(table.rows) * static_cast<double>(table.dim);
  const double bytes = elements * kValueBytes;
  const double bags = static_cast<double>(workload.batch_size) * static_cast<double>(table.lookups);
  const double lookup = bags * (kIdBytes + 2.0 * static_cast<double>(table.dim) * kValueBytes);
  ShardCost cost;
  cost.memory = 4 * bytes + 2 * bags * static_cast<double>(table.dim) * kValueBytes;  // weights, gradient, two averages
  // Gradient, weights and state pass by the optimizer once a step; an all-reduce moves everything twice.
  cost.milliseconds = (3 * lookup + 6 * bytes) / hardware.memory_bandwidth + 2 * Travel(bytes, hardware);
  return cost;
}

}  // namespace

Hardware Hardware::OfThisHost(const RankLayout& layout) {
  Hardware hardware;
  hardware.layout = layout;
  hardware.memory = HostMemory() / layout.local_world_size;
  hardware.intra_node_bandwidth =
      config::EnvironmentNumber("INTRA_NODE_BANDWIDTH", hardware.intra_node_bandwidth, 1, 1e18);
  hardware.cross_node_bandwidth =
      config::EnvironmentNumber("CROSS_NODE_BANDWIDTH", hardware.cross_node_bandwidth, 1, 1e18);
  hardware.storage_reserve = config::EnvironmentNumber("STORAGE_RESERVE_PERCENT", hardware.storage_reserve, 0, 0.99);
  return hardware;
}

double ReservedMemory(const Hardware& hardware, const Workload& workload) {
  return hardware.storage_reserve * hardware.memory + 6 * workload.dense_parameter_bytes + 20 * workload.input_bytes;
}

ShardCost CostOf(const PlannedTable& table, const TablePlacement& placement, int position, const Hardware& hardware,
                 const Workload& workload) {
  if (placement.dense()) return DenseCost(table, hardware, workload);
  const TableShard shard = placement.Shard(position, table.rows, table.dim);
  const double rows = static_cast<double>(shard.rows), columns = static_cast<double>(shard.columns);
  const double bags =
      static_cast<double>(workload.batch_size) * hardware.layout.world_size * static_cast<double>(table.lookups);
  const double ids = bags * rows / static_cast<double>(std::max<int64_t>(table.rows, 1));
  const double ids_bytes = ids * kIdBytes + bags * kIdBytes, pooled = bags * columns * kValueBytes;
  ShardCost cost;
  constexpr double kSlot = 4;  // bytes per row with which a snapshot finds what it has kept
  cost.memory =
      rows * ((columns + StatePerRow(workload.optimizer, columns)) * kValueBytes + kSlot) + 2 * ids_bytes + 2 * pooled;
  const double forward = (ids_bytes + ids * columns * kValueBytes + pooled) / hardware.memory_bandwidth;
  cost.milliseconds = 3 * forward + Travel(ids_bytes, hardware) + 2 * Travel(pooled, hardware);
  return cost;
}

std::string MemoryText(double bytes) {
  char text[32];
  const bool large = bytes >= 0.1 * (1 << 30);
  std::snprintf(text, sizeof text, large ? "%.2f GiB" : "%.2f MiB", bytes / (large ? 1 << 30 : 1 << 20));
  return text;
}

}  // namespace anneal::embedding
