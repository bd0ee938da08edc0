// The search: a proposal names one way of sharding per table; Partition gives its shards to ranks; proposals are the
// cheapest way of every table, every type for all tables alike, and then steps that change one table of the rank that
// is worst off. The best of all of them is the plan.
#include "worker/embedding/planner.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "worker/config/error.h"

namespace anneal::embedding {
namespace {

using tzrec::protos::ParameterConstraints;

constexpr int kMostSteps = 200;

bool Holds(const auto& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string Join(const auto& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

bool HasConstraints(const ParameterConstraints& constraints) {
  return constraints.sharding_types_size() > 0 || constraints.compute_kernels_size() > 0;
}

/// A way of sharding one table, and what each of its shards costs wherever it lives.
struct Option {
  TablePlacement shape;  ///< ranks are placeholders
  std::vector<ShardCost> costs;
  double milliseconds = 0, largest = 0;  ///< of all shards; memory of the largest
};

Option MakeOption(const PlannedTable& table, ShardingType type, int shards, int column_blocks, const Hardware& hardware,
                  const Workload& workload) {
  Option option;
  option.shape.type = type;
  option.shape.ranks.resize(shards);
  std::iota(option.shape.ranks.begin(), option.shape.ranks.end(), 0);
  option.shape.column_blocks = column_blocks;
  for (int position = 0; position < shards; ++position) {
    option.costs.push_back(CostOf(table, option.shape, position, hardware, workload));
    option.milliseconds += option.costs.back().milliseconds;
    option.largest = std::max(option.largest, option.costs.back().memory);
  }
  return option;
}

std::vector<Option> OptionsOf(const PlannedTable& table, const ParameterConstraints& global, const Hardware& hardware,
                              const Workload& workload) {
  std::vector<Option> options;
  const RankLayout& layout = hardware.layout;
  // Numbers of blocks of columns: 2, 4, 8, ... and as many as there are places.
  auto columns = [&](int most, auto add) {
    std::set<int> blocks;
    for (int n = 2; n < most; n *= 2) blocks.insert(ColumnBlocks(table.dim, n));
    blocks.insert(ColumnBlocks(table.dim, most));
    if (blocks.size() > 1) blocks.erase(1);
    for (const int n : blocks) add(n);
  };
  auto add = [&](ShardingType type, int shards, int column_blocks) {
    options.push_back(MakeOption(table, type, shards, column_blocks, hardware, workload));
  };
  for (const ShardingType type : AllowedTypes(table, global, layout)) {
    switch (type) {
      case ShardingType::kDataParallel:
      case ShardingType::kRowWise:
        add(type, layout.world_size, 1);
        break;
      case ShardingType::kTableWise:
        add(type, 1, 1);
        break;
      case ShardingType::kTableRowWise:
        add(type, layout.local_world_size, 1);
        break;
      case ShardingType::kColumnWise:
        columns(layout.world_size, [&](int n) { add(type, n, n); });
        break;
      case ShardingType::kTableColumnWise:
        columns(layout.local_world_size, [&](int n) { add(type, n, n); });
        break;
      case ShardingType::kGrid:
        columns(layout.hosts(), [&](int n) { add(type, n * layout.local_world_size, n); });
        break;
    }
  }
  return options;
}

/// Places shards on ranks, keeping count of what every rank has.
class Partition {
 public:
  Partition(const Hardware& hardware, double limit)
      : layout_(hardware.layout), limit_(limit), memory_(layout_.world_size, 0), time_(layout_.world_size, 0) {}

  TablePlacement Place(const Option& option) {
    TablePlacement placement = option.shape;
    const int local = layout_.local_world_size;
    switch (option.shape.type) {
      case ShardingType::kDataParallel:
      case ShardingType::kRowWise:
        for (int r = 0; r < layout_.world_size; ++r) Put(r, option.costs[r]);
        break;
      case ShardingType::kTableWise:
      case ShardingType::kColumnWise: {
        std::set<int> taken;
        for (size_t i = 0; i < option.costs.size(); ++i) {
          placement.ranks[i] = Best(0, layout_.world_size, taken, option.costs[i]);
          taken.insert(placement.ranks[i]);
          Put(placement.ranks[i], option.costs[i]);
        }
        break;
      }
      case ShardingType::kTableRowWise:
      case ShardingType::kTableColumnWise:
      case ShardingType::kGrid: {
        // A block of columns (grid) or the whole table per host.
        const int per_host = option.shape.type == ShardingType::kGrid ? local : static_cast<int>(option.costs.size());
        std::set<int> hosts;
        for (size_t first = 0; first < option.costs.size(); first += per_host) {
          const int host = BestHost(hosts, option.costs[first]);
          hosts.insert(host);
          std::set<int> taken;
          for (int i = 0; i < per_host; ++i) {
            const ShardCost& cost = option.costs[first + i];
            const int rank = per_host == local ? host * local + i : Best(host * local, (host + 1) * local, taken, cost);
            taken.insert(rank);
            placement.ranks[first + i] = rank;
            Put(rank, cost);
          }
        }
        break;
      }
    }
    return placement;
  }

  double overflow() const {
    double sum = 0;
    for (const double memory : memory_) sum += std::max(0.0, memory - limit_);
    return sum;
  }
  double slowest() const { return *std::max_element(time_.begin(), time_.end()); }
  const std::vector<double>& memory() const { return memory_; }
  const std::vector<double>& time() const { return time_; }

 private:
  void Put(int rank, const ShardCost& cost) {
    memory_[rank] += cost.memory;
    time_[rank] += cost.milliseconds;
  }

  /// The fastest of the ranks with room for the shard; the emptiest when none has room.
  int Best(int begin, int end, const std::set<int>& taken, const ShardCost& cost) const {
    int best = -1;
    auto key = [&](int r) {
      const bool room = memory_[r] + cost.memory <= limit_;
      return std::make_tuple(!room, room ? time_[r] : memory_[r], room ? memory_[r] : time_[r]);
    };
    for (int r = begin; r < end; ++r) {
      if (!taken.count(r) && (best < 0 || key(r) < key(best))) best = r;
    }
    return best;
  }

  int BestHost(const std::set<int>& taken, const ShardCost& cost) const {
    int best = -1;
    auto key = [&](int host) {
      double memory = 0, time = 0;
      for (int r = host * layout_.local_world_size; r < (host + 1) * layout_.local_world_size; ++r) {
        memory = std::max(memory, memory_[r]);
        time = std::max(time, time_[r]);
      }
      const bool room = memory + cost.memory <= limit_;
      return std::make_tuple(!room, room ? time : memory, room ? memory : time);
    };
    for (int host = 0; host < layout_.hosts(); ++host) {
      if (!taken.count(host) && (best < 0 || key(host) < key(best))) best = host;
    }
    return best;
  }

  const RankLayout layout_;
  const double limit_;
  std::vector<double> memory_, time_;
};

class Search {
 public:
  Search(const std::vector<PlannedTable>& tables, const ParameterConstraints& global, const Hardware& hardware,
         const Workload& workload)
      : tables_(tables),
        hardware_(hardware),
        limit_(std::max(0.0, hardware.memory - ReservedMemory(hardware, workload))) {
    for (const PlannedTable& table : tables) options_.push_back(OptionsOf(table, global, hardware, workload));
  }

  Plan Run() {
    std::vector<size_t> cheapest(tables_.size(), 0);
    for (size_t t = 0; t < tables_.size(); ++t) {
      for (size_t o = 1; o < options_[t].size(); ++o) {
        if (options_[t][o].milliseconds < options_[t][cheapest[t]].milliseconds) cheapest[t] = o;
      }
    }
    Try(cheapest);
    for (const auto type : {ShardingType::kTableWise, ShardingType::kRowWise, ShardingType::kColumnWise,
                            ShardingType::kTableRowWise, ShardingType::kTableColumnWise, ShardingType::kGrid}) {
      std::vector<size_t> uniform = cheapest;
      for (size_t t = 0; t < tables_.size(); ++t) {
        for (size_t o = 0; o < options_[t].size(); ++o) {
          if (options_[t][o].shape.type == type) uniform[t] = o;
        }
      }
      Try(uniform);
    }
    for (int step = 0; step < kMostSteps && Improve(); ++step) {
    }
    if (best_.overflow > 0) throw ConfigError(WhyNot());
    return {best_.placements, best_.memory, best_.time};
  }

 private:
  struct Attempt {
    std::vector<size_t> proposal;
    std::vector<TablePlacement> placements;
    std::vector<double> memory, time;
    double overflow = 0, slowest = 0, all_memory = 0;
    bool operator<(const Attempt& other) const {
      return std::tie(overflow, slowest, all_memory) < std::tie(other.overflow, other.slowest, other.all_memory);
    }
  };

  /// Partitions a proposal and keeps it when it is the best so far.
  bool Try(const std::vector<size_t>& proposal) {
    Partition partition(hardware_, limit_);
    double time = 0, memory = 0;
    for (size_t t = 0; t < tables_.size(); ++t) {
      time += Chosen(proposal, t).milliseconds;
      memory += Chosen(proposal, t).largest;
    }
    // What goes everywhere first, then what is largest in time or memory.
    std::vector<std::tuple<bool, double, size_t>> order;
    for (size_t t = 0; t < tables_.size(); ++t) {
      const Option& option = Chosen(proposal, t);
      const bool anywhere = static_cast<int>(option.costs.size()) < hardware_.layout.world_size;
      const double weight =
          std::max(time > 0 ? option.milliseconds / time : 0.0, memory > 0 ? option.largest / memory : 0.0);
      order.emplace_back(anywhere, -weight, t);
    }
    std::sort(order.begin(), order.end());
    Attempt attempt;
    attempt.proposal = proposal;
    attempt.placements.resize(tables_.size());
    for (const auto& [anywhere, weight, t] : order) attempt.placements[t] = partition.Place(Chosen(proposal, t));
    attempt.memory = partition.memory();
    attempt.time = partition.time();
    attempt.overflow = partition.overflow();
    attempt.slowest = partition.slowest();
    attempt.all_memory = std::accumulate(attempt.memory.begin(), attempt.memory.end(), 0.0);
    if (!best_.placements.empty() && !(attempt < best_)) return false;
    best_ = std::move(attempt);
    return true;
  }

  /// Changes one table of the worst rank; false: no change helps.
  bool Improve() {
    const auto& load = best_.overflow > 0 ? best_.memory : best_.time;
    const int worst = static_cast<int>(std::max_element(load.begin(), load.end()) - load.begin());
    std::vector<std::pair<double, size_t>> there;
    for (size_t t = 0; t < tables_.size(); ++t) {
      const int position = best_.placements[t].PositionOf(worst);
      if (position < 0 || options_[t].size() < 2) continue;
      const ShardCost& cost = Chosen(best_.proposal, t).costs[position];
      there.emplace_back(best_.overflow > 0 ? -cost.memory : -cost.milliseconds, t);
    }
    std::sort(there.begin(), there.end());
    constexpr size_t kLargest = 4;
    for (size_t i = 0; i < std::min(kLargest, there.size()); ++i) {
      const size_t t = there[i].second;
      const std::vector<size_t> from = best_.proposal;
      bool better = false;
      for (size_t o = 0; o < options_[t].size(); ++o) {
        if (o == from[t]) continue;
        std::vector<size_t> proposal = from;
        proposal[t] = o;
        better = Try(proposal) || better;
      }
      if (better) return true;
    }
    return false;
  }

  const Option& Chosen(const std::vector<size_t>& proposal, size_t t) const { return options_[t][proposal[t]]; }

  std::string WhyNot() const {
    std::string text = "No available sharding type and compute kernel combination: the tables do not fit into " +
                       std::to_string(hardware_.layout.world_size) + " ranks with " + MemoryText(limit_) +
                       " each for tables (" + MemoryText(hardware_.memory) + " less " +
                       MemoryText(hardware_.memory - limit_) + " reserved)";
    for (size_t r = 0; r < best_.memory.size(); ++r) {
      if (best_.memory[r] > limit_) {
        text += "\n  rank " + std::to_string(r) + " would need " + MemoryText(best_.memory[r]);
        break;
      }
    }
    for (size_t t = 0; t < tables_.size(); ++t) {
      const auto smallest = std::min_element(options_[t].begin(), options_[t].end(),
                                             [](const Option& a, const Option& b) { return a.largest < b.largest; });
      if (smallest->largest <= limit_) continue;
      text += "\n  " + tables_[t].label() + " (" + std::to_string(tables_[t].rows) + " x " +
              std::to_string(tables_[t].dim) + ") by itself: its smallest shards are " +
              ShardingTypeName(smallest->shape.type) + ", " + MemoryText(smallest->largest) + " each";
    }
    return text +
           "\n  more ranks, more memory per rank, a smaller STORAGE_RESERVE_PERCENT or constraints that allow "
           "row_wise make room";
  }

  const std::vector<PlannedTable>& tables_;
  const Hardware& hardware_;
  const double limit_;
  std::vector<std::vector<Option>> options_;
  Attempt best_;
};

}  // namespace

std::vector<ShardingType> AllowedTypes(const PlannedTable& table, const ParameterConstraints& global,
                                       const RankLayout& layout) {
  const auto& constraints = HasConstraints(table.constraints) ? table.constraints : global;
  const auto& kernels = constraints.compute_kernels();
  // A table of kernel "dense" is the dense optimizer's, and that one wants it whole on every rank.
  if (!kernels.empty() && !Holds(kernels, "fused") && Holds(kernels, "dense")) return {ShardingType::kDataParallel};
  std::vector<ShardingType> named;
  for (const auto& name : constraints.sharding_types()) {
    if (const auto type = ParseShardingType(name)) named.push_back(*type);
  }
  if (constraints.sharding_types().empty()) {
    named = {ShardingType::kTableWise, ShardingType::kRowWise, ShardingType::kColumnWise, ShardingType::kTableRowWise,
             ShardingType::kTableColumnWise};
  }
  const bool fused = kernels.empty() || Holds(kernels, "fused"), dense = kernels.empty() || Holds(kernels, "dense");
  std::vector<ShardingType> allowed;
  std::set<std::pair<int, bool>> seen;  // ranks per table and whether by columns: the same on this layout
  for (const ShardingType type : named) {
    if (type == ShardingType::kDataParallel || !fused) continue;
    const bool columns = type == ShardingType::kColumnWise || type == ShardingType::kTableColumnWise;
    const int ranks = type == ShardingType::kTableWise ? 1
                      : type == ShardingType::kTableRowWise || type == ShardingType::kTableColumnWise
                          ? layout.local_world_size
                          : layout.world_size;
    const bool grid = type == ShardingType::kGrid && layout.hosts() > 1;
    if (grid || seen.insert({ranks, columns && ranks > 1}).second) allowed.push_back(type);
  }
  // What the sparse optimizer can train, it trains.
  if (allowed.empty() && dense && Holds(constraints.sharding_types(), "data_parallel")) {
    allowed.push_back(ShardingType::kDataParallel);
  }
  if (allowed.empty()) {
    throw ConfigError(table.label() +
                      ": No available sharding type and compute kernel combination: " + "sharding_types [" +
                      Join(constraints.sharding_types()) + "], compute_kernels [" + Join(kernels) + "]");
  }
  return allowed;
}

Plan PlanTables(const std::vector<PlannedTable>& tables, const ParameterConstraints& global, const Hardware& hardware,
                const Workload& workload) {
  return Search(tables, global, hardware, workload).Run();
}

Plan CostOfPlan(const std::vector<PlannedTable>& tables, std::vector<TablePlacement> placements,
                const Hardware& hardware, const Workload& workload) {
  Plan plan;
  plan.memory.resize(hardware.layout.world_size, 0);
  plan.milliseconds.resize(hardware.layout.world_size, 0);
  for (size_t t = 0; t < tables.size(); ++t) {
    for (size_t position = 0; position < placements[t].ranks.size(); ++position) {
      const ShardCost cost = CostOf(tables[t], placements[t], static_cast<int>(position), hardware, workload);
      plan.memory[placements[t].ranks[position]] += cost.memory;
      plan.milliseconds[placements[t].ranks[position]] += cost.milliseconds;
    }
  }
  plan.placements = std::move(placements);
  return plan;
}

}  // namespace anneal::embedding
