// Plans: which ways of sharding constraints allow, what the planner makes of costs and memory, plan files, geometry.
#include "worker/embedding/planner.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "worker/config/error.h"

namespace anneal::embedding {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tzrec::protos::ParameterConstraints;

ParameterConstraints Constraints(std::initializer_list<const char*> types,
                                 std::initializer_list<const char*> kernels = {}) {
  ParameterConstraints constraints;
  for (const char* type : types) constraints.add_sharding_types(type);
  for (const char* kernel : kernels) constraints.add_compute_kernels(kernel);
  return constraints;
}

PlannedTable Table(const char* name, int64_t rows, int64_t dim, ParameterConstraints constraints = {}) {
  return {"m", name, rows, dim, std::move(constraints)};
}

Hardware Machines(int world_size, int local_world_size, double memory = 64.0 * (1 << 30)) {
  Hardware hardware;
  hardware.layout = {world_size, local_world_size};
  hardware.memory = memory;
  return hardware;
}

std::string ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(AllowedTypes, OwnConstraintsThenGlobalOnesThenAll) {
  const RankLayout two_hosts{4, 2};
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8), {}, two_hosts),
              ElementsAre(ShardingType::kTableWise, ShardingType::kRowWise, ShardingType::kColumnWise,
                          ShardingType::kTableRowWise, ShardingType::kTableColumnWise));
  const auto global = Constraints({"row_wise"});
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8), global, two_hosts), ElementsAre(ShardingType::kRowWise));
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8, Constraints({"grid_shard", "table_wise"})), global, two_hosts),
              ElementsAre(ShardingType::kGrid, ShardingType::kTableWise));
}

TEST(AllowedTypes, WhatComesToTheSameIsListedOnce) {
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8), {}, {1, 1}), ElementsAre(ShardingType::kTableWise));
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8), {}, {4, 4}),
              ElementsAre(ShardingType::kTableWise, ShardingType::kRowWise, ShardingType::kColumnWise));
}

TEST(AllowedTypes, TheDenseOptimizerGetsOnlyWhatNothingElseMayTrain) {
  const RankLayout two{2, 2};
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8, Constraints({"data_parallel"})), {}, two),
              ElementsAre(ShardingType::kDataParallel));
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8, Constraints({"data_parallel", "row_wise"})), {}, two),
              ElementsAre(ShardingType::kRowWise));
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8, Constraints({}, {"dense"})), {}, two),
              ElementsAre(ShardingType::kDataParallel));
  EXPECT_THAT(AllowedTypes(Table("t", 9, 8, Constraints({"table_wise"}, {"dense", "fused"})), {}, two),
              ElementsAre(ShardingType::kTableWise));
}

TEST(AllowedTypes, ContradictionsAreNamed) {
  const auto message = ErrorOf([] {
    AllowedTypes(Table("t", 9, 8, Constraints({"data_parallel"}, {"fused"})), {}, {2, 2});
  });
  EXPECT_THAT(message, HasSubstr("table 't' of m: No available sharding type and compute kernel combination"));
  EXPECT_THAT(message, HasSubstr("sharding_types [data_parallel], compute_kernels [fused]"));
}

/// Every cell of the table is on exactly one rank, no rank appears twice.
void ExpectTiling(const TablePlacement& placement, int64_t rows, int64_t dim) {
  std::vector<int> cells(rows * dim, 0);
  for (size_t position = 0; position < placement.ranks.size(); ++position) {
    const TableShard shard = placement.Shard(static_cast<int>(position), rows, dim);
    for (int64_t r = 0; r < shard.rows; ++r) {
      for (int64_t c = 0; c < shard.columns; ++c) ++cells.at((shard.row_begin + r) * dim + shard.column_begin + c);
    }
    EXPECT_GT(shard.columns, 0);
  }
  EXPECT_EQ(std::count(cells.begin(), cells.end(), 1), rows * dim);
  EXPECT_EQ(std::set<int>(placement.ranks.begin(), placement.ranks.end()).size(), placement.ranks.size());
}

TEST(Placement, ShardsTileTheTable) {
  for (const char* type :
       {"table_wise", "row_wise", "column_wise", "table_row_wise", "table_column_wise", "grid_shard"}) {
    for (const auto& [world, local] : {std::pair{1, 1}, {2, 1}, {4, 2}, {8, 4}, {6, 2}}) {
      for (const int64_t rows : {1, 3, 10, 64}) {
        for (const int64_t dim : {1, 3, 4, 6, 8, 16, 20, 33}) {
          SCOPED_TRACE(std::string(type) + " " + std::to_string(world) + " " + std::to_string(rows) + "x" +
                       std::to_string(dim));
          const auto plan = PlanTables({Table("t", rows, dim)}, Constraints({type}), Machines(world, local), {});
          ExpectTiling(plan.placements[0], rows, dim);
          const auto back = PlanFromJson(PlanToJson({Table("t", rows, dim)}, plan.placements), {Table("t", rows, dim)},
                                         {world, local}, "plan");
          EXPECT_EQ(back[0].ranks, plan.placements[0].ranks);
          EXPECT_EQ(back[0].column_blocks, plan.placements[0].column_blocks);
        }
      }
    }
  }
}

TEST(Placement, ColumnsAreCutInStepsOfFour) {
  TablePlacement halves{ShardingType::kColumnWise, {0, 1}, 2};
  EXPECT_EQ(halves.Shard(0, 5, 20).columns, 12);
  EXPECT_EQ(halves.Shard(1, 5, 20).columns, 8);
  EXPECT_EQ(halves.Shard(1, 5, 20).column_begin, 12);
  EXPECT_EQ(halves.Shard(0, 5, 3).columns, 2);  // too narrow
  EXPECT_EQ(ColumnBlocks(16, 3), 2);
  EXPECT_EQ(ColumnBlocks(16, 4), 4);
  EXPECT_EQ(ColumnBlocks(4, 8), 1);
}

TEST(Planner, SpreadsEqualTables) {
  std::vector<PlannedTable> tables;
  for (int i = 0; i < 8; ++i) tables.push_back(Table(("t" + std::to_string(i)).c_str(), 1000, 16));
  const Plan plan = PlanTables(tables, {}, Machines(4, 4), {});
  std::vector<int> count(4, 0);
  for (const auto& placement : plan.placements) {
    EXPECT_EQ(placement.type, ShardingType::kTableWise);
    ++count[placement.ranks[0]];
  }
  EXPECT_THAT(count, ElementsAre(2, 2, 2, 2));
}

TEST(Planner, ATableThatNoRankCanHoldIsCut) {
  // 40 GiB of weights, 4 ranks of 14 GiB.
  const std::vector<PlannedTable> tables{Table("huge", 671088640, 16), Table("small", 1000, 16)};
  const Plan plan = PlanTables(tables, {}, Machines(4, 4, 14.0 * (1 << 30)), {});
  EXPECT_EQ(plan.placements[0].type, ShardingType::kRowWise);  // by columns the bookkeeping per row is too much
  for (const double memory : plan.memory) EXPECT_LT(memory, 0.85 * 14.0 * (1 << 30));
}

PlannedTable Busy(const char* name, ParameterConstraints constraints = {}) {
  PlannedTable table = Table(name, 1000, 64, std::move(constraints));
  table.lookups = 20;
  return table;
}

TEST(Planner, AHotTableIsSharedAmongRanksThatHaveNothingElseToDo) {
  EXPECT_EQ(PlanTables({Busy("a")}, {}, Machines(2, 2), {}).placements[0].ranks.size(), 2u);
  // Two of them: a rank each moves less than halves of both.
  const auto both =
      PlanTables({Busy("a"), Busy("b")}, Constraints({"table_wise", "row_wise"}), Machines(2, 2), {}).placements;
  EXPECT_EQ(both[0].type, ShardingType::kTableWise);
  EXPECT_EQ(both[1].type, ShardingType::kTableWise);
  EXPECT_NE(both[0].ranks, both[1].ranks);
}

TEST(Planner, EveryHostGetsATable) {
  const auto placements =
      PlanTables({Busy("a"), Busy("b")}, Constraints({"row_wise", "table_row_wise"}), Machines(4, 2), {}).placements;
  std::set<std::vector<int>> ranks;
  for (const auto& placement : placements) {
    EXPECT_EQ(placement.type, ShardingType::kTableRowWise);
    ranks.insert(placement.ranks);
  }
  EXPECT_EQ(ranks, (std::set<std::vector<int>>{{0, 1}, {2, 3}}));
}

TEST(Planner, ExplainsWhatDoesNotFit) {
  const std::vector<PlannedTable> tables{Table("huge", 671088640, 16), Table("small", 1000, 16)};
  Workload workload;
  workload.dense_parameter_bytes = 1 << 30;
  const auto message =
      ErrorOf([&] { PlanTables(tables, Constraints({"table_wise"}), Machines(2, 2, 20.0 * (1 << 30)), workload); });
  EXPECT_THAT(message,
              HasSubstr("do not fit into 2 ranks with 11.00 GiB each for tables (20.00 GiB less 9.00 GiB reserved)"));
  EXPECT_THAT(message,
              HasSubstr("table 'huge' of m (671088640 x 16) by itself: its smallest shards are table_wise, 42.50"));
  EXPECT_THAT(message, testing::Not(HasSubstr("'small'")));
}

TEST(Planner, OptimizerStateCounts) {
  const std::vector<PlannedTable> tables{Table("t", 1 << 20, 16)};
  Workload adam, sgd;
  adam.optimizer = OptimizerType::kAdam;
  const double difference =
      PlanTables(tables, {}, Machines(1, 1), adam).memory[0] - PlanTables(tables, {}, Machines(1, 1), sgd).memory[0];
  EXPECT_EQ(difference, 2.0 * (1 << 20) * 16 * 4);
}

TEST(Hardware, ReadsItsVariables) {
  setenv("INTRA_NODE_BANDWIDTH", "1000", 1);
  setenv("CROSS_NODE_BANDWIDTH", "200.5", 1);
  setenv("STORAGE_RESERVE_PERCENT", "0.4", 1);
  const Hardware hardware = Hardware::OfThisHost({4, 2});
  EXPECT_EQ(hardware.intra_node_bandwidth, 1000);
  EXPECT_EQ(hardware.cross_node_bandwidth, 200.5);
  EXPECT_EQ(hardware.storage_reserve, 0.4);
  EXPECT_GT(hardware.memory, 1 << 20);
  EXPECT_NEAR(Hardware::OfThisHost({1, 1}).memory / hardware.memory, 2, 1e-6);
  setenv("STORAGE_RESERVE_PERCENT", "15%", 1);
  EXPECT_THAT(ErrorOf([] { Hardware::OfThisHost({1, 1}); }), HasSubstr("STORAGE_RESERVE_PERCENT='15%'"));
  for (const char* name : {"INTRA_NODE_BANDWIDTH", "CROSS_NODE_BANDWIDTH", "STORAGE_RESERVE_PERCENT"}) unsetenv(name);
  EXPECT_NEAR(Hardware::OfThisHost({1, 1}).intra_node_bandwidth, 600.0 * 1024 * 1024 * 1024 / 1000, 1);
}

TEST(PlanFile, FaultsNameTheTable) {
  const std::vector<PlannedTable> tables{Table("t", 100, 8)};
  auto fault = [&](const char* entry, RankLayout layout = {4, 2}) {
    return ErrorOf([&] {
      PlanFromJson(nlohmann::json::parse(R"({"m": {"t": )" + std::string(entry) + "}}"), tables, layout, "f.json");
    });
  };
  EXPECT_THAT(ErrorOf([&] {
                PlanFromJson({}, tables, {1, 1}, "f.json");
              }),
              HasSubstr("f.json: table 't' of m is missing"));
  EXPECT_THAT(fault(R"({"ranks": [0]})"), HasSubstr("sharding_type is missing"));
  EXPECT_THAT(fault(R"({"sharding_type": "diagonal", "ranks": [0]})"), HasSubstr("'diagonal' is not known"));
  EXPECT_THAT(fault(R"({"sharding_type": "table_wise", "ranks": [4]})"), HasSubstr("rank 4 is not one of the 4"));
  EXPECT_THAT(fault(R"({"sharding_type": "column_wise", "ranks": [1, 1]})"), HasSubstr("rank 1 is listed twice"));
  EXPECT_THAT(fault(R"({"sharding_type": "row_wise", "ranks": [0, 1]})"),
              HasSubstr("needs all of them, the plan lists 2"));
  EXPECT_THAT(fault(R"({"sharding_type": "grid_shard", "ranks": [0, 1, 2]})"), HasSubstr("the plan lists 3"));
  EXPECT_THAT(fault(R"({"sharding_type": "table_wise", "compute_kernel": "key_value", "ranks": [0]})"),
              HasSubstr("key_value"));
  EXPECT_EQ(fault(R"({"sharding_type": "grid_shard", "ranks": [2, 3, 0, 1]})"), "no error");
}

TEST(PlanLines, SayWhatIsWhere) {
  const std::vector<PlannedTable> tables{Table("users", 1000, 16), Table("x", 10, 8, Constraints({"row_wise"}))};
  const Hardware machines = Machines(4, 2);
  const Plan plan = PlanTables(tables, Constraints({"table_wise"}), machines, {});
  const auto lines = PlanLines(tables, plan, machines, {});
  ASSERT_EQ(lines.size(), 2u + 2u + 4u);
  EXPECT_THAT(lines[1], testing::ContainsRegex("table +rows x dim +sharding +kernel +ranks +memory +cost"));
  EXPECT_THAT(lines[2], testing::ContainsRegex("users +1000 x 16 +table_wise +fused +[0-3] +[0-9.]+ MiB +[0-9.]+ ms"));
  EXPECT_THAT(lines[3], testing::ContainsRegex("x +10 x 8 +row_wise +fused +0-3 +[0-9.]+ MiB +[0-9.]+ ms"));
  EXPECT_THAT(lines[7], testing::ContainsRegex("rank 3 +[0-9.]+ MiB of 54.40 GiB +[0-9.]+ ms"));
}

}  // namespace
}  // namespace anneal::embedding
