// Which rows a batch looks up, and those rows brought together from every sharding.
#include "worker/embedding/touched_rows.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "tests/worker/embedding/thread_group.h"
#include "worker/embedding/row_collector.h"

namespace anneal::embedding {
namespace {

using Rows = std::vector<int64_t>;

/// Two features look up "shared", one "frozen".
models::EmbeddingPlan TestPlan() {
  models::EmbeddingPlan plan;
  for (const char* name : {"shared", "frozen"}) {
    models::Table table;
    table.name = name;
    table.rows = 130;
    table.dim = 12;
    table.trainable = table.name == "shared";
    table.init_fn = "nn.init.uniform_,a=-0.5,b=0.5";
    plan.tables.push_back(table);
  }
  for (const int t : {0, 0, 1}) {
    plan.lookups.push_back({static_cast<int>(plan.lookups.size()), t, plan.pooled_width, 12});
    plan.pooled_width += 12;
  }
  return plan;
}

data::Batch BatchOf(const std::vector<Rows>& bags, int64_t rows) {
  data::Batch batch;
  batch.rows = rows;
  batch.sparse.offsets.push_back(0);
  for (const Rows& bag : bags) {
    batch.sparse.values.insert(batch.sparse.values.end(), bag.begin(), bag.end());
    batch.sparse.offsets.push_back(static_cast<int64_t>(batch.sparse.values.size()));
  }
  return batch;
}

TEST(TouchedRows, IdsOutsideAreRowZeroAndFrozenTablesHaveNone) {
  const auto plan = TestPlan();
  TouchedRows touched(plan);
  touched.Add(data::Batch{});
  EXPECT_EQ(touched.rows(0), Rows{});
  touched.Add(BatchOf({{129, 64}, {}, {63, 64}, {5}, {1}, {2}}, 2));
  EXPECT_EQ(touched.rows(0), (Rows{5, 63, 64, 129}));
  EXPECT_EQ(touched.rows(1), Rows{});
  touched.Add(BatchOf({{130}, {}, {7}}, 1));
  EXPECT_EQ(touched.rows(0), (Rows{0, 5, 63, 64, 129}));
  touched.Clear();
  touched.Add(BatchOf({{-1}, {}, {}}, 1));
  EXPECT_EQ(touched.rows(0), Rows{0});
  touched.Add(0, Rows{128, 3});
  EXPECT_EQ(touched.rows(0), (Rows{0, 3, 128}));
}

/// All rows that come to any rank, when rank r asks for `asked[r]`.
std::map<int64_t, std::vector<float>> CollectOn(int ranks, int local, const TablePlacement& placement,
                                                const std::vector<Rows>& asked) {
  const auto plan = TestPlan();
  std::map<int64_t, std::vector<float>> all;
  std::mutex mutex;
  tests::RunRanks(ranks, local, [&](dist::ProcessGroup& group) {
    ShardedEmbedding tables(plan, {placement, placement}, OptimizerSpec{}, group, 1);
    tables.Initialize(7);
    const auto collected = RowCollector(plan, tables, group).Collect(0, asked[group.rank()]);
    const std::lock_guard lock(mutex);
    EXPECT_EQ(collected.values.size(), collected.rows.size() * 12);
    for (size_t i = 0; i < collected.rows.size(); ++i) {
      const auto* row = collected.values.data() + i * 12;
      EXPECT_TRUE(all.emplace(collected.rows[i], std::vector<float>(row, row + 12)).second) << "twice";
    }
  });
  return all;
}

TEST(RowCollector, BringsEveryRowOnceAndWhole) {
  const std::vector<Rows> asked = {{0, 5, 33, 64, 128}, {5, 32, 129}, {}, {64, 65}};
  const auto want = CollectOn(1, 1, {ShardingType::kTableWise, {0}, 1}, {{0, 5, 32, 33, 64, 65, 128, 129}});
  ASSERT_EQ(want.size(), 8u);
  const TablePlacement everywhere = EverywhereWhole({4, 2});
  for (const TablePlacement& placement :
       {everywhere, TablePlacement{ShardingType::kTableWise, {2}, 1},
        TablePlacement{ShardingType::kRowWise, {0, 1, 2, 3}, 1},
        TablePlacement{ShardingType::kColumnWise, {3, 0, 1}, 3}, TablePlacement{ShardingType::kTableRowWise, {2, 3}, 1},
        TablePlacement{ShardingType::kTableColumnWise, {1, 0}, 2},
        TablePlacement{ShardingType::kGrid, {2, 3, 0, 1}, 2}}) {
    EXPECT_EQ(CollectOn(4, 2, placement, asked), want) << ShardingTypeName(placement.type);
  }
}

}  // namespace
}  // namespace anneal::embedding
