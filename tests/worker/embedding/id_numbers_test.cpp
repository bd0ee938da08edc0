// From the ids of a batch to what linear layers know of their input.
#include "worker/embedding/id_numbers.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/worker/nn/with_arithmetic.h"

namespace anneal::embedding {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

using nn::Using;

data::Batch BatchOf(const std::vector<Rows>& features) {
  data::Batch batch;
  batch.rows = static_cast<int64_t>(features.front().size());
  batch.sparse.offsets = {0};
  for (const Rows& rows : features) {
    for (const auto& ids : rows) {
      batch.sparse.values.insert(batch.sparse.values.end(), ids.begin(), ids.end());
      batch.sparse.offsets.push_back(static_cast<int64_t>(batch.sparse.values.size()));
    }
  }
  return batch;
}

/// Feature f has table f, 16 wide; those of `sequence` are sequences.
models::EmbeddingPlan PlanOf(int features, int sequence = -1) {
  models::EmbeddingPlan plan;
  models::Group group{"deep"};
  for (int f = 0; f < features; ++f) {
    models::Table table;
    table.dim = 16;
    table.rows = 100;
    table.sequence = f == sequence;
    plan.tables.push_back(table);
    plan.lookups.push_back({f, f, table.sequence ? 0 : plan.pooled_width, 16});
    if (!table.sequence) plan.pooled_width += 16;
  }
  using Source = models::Block::Source;
  group.blocks = {{Source::kDense, 0, 5},
                  {Source::kPooled, 16, plan.pooled_width - 16}};  // the first feature is in another group
  plan.groups.push_back(group);
  return plan;
}

constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();

TEST(IdNumbers, NumberIdsInTheOrderInWhichTheyAppear) {
  const Using arithmetic("repeated");
  const data::Batch batch = BatchOf({{{7}, {}, {7}, {-1}, {}, {7}},           // an empty row is like an empty row
                                     {{1, 2}, {3}, {1, 2}, {3}, {3, 3}, {}},  // several ids are like no others
                                     {{kLeast}, {0}, {kLeast}, {1L << 40}, {0}, {}},
                                     {{1}, {1}, {1}, {1}, {1}, {1}}});
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    const auto found = NumberIds(PlanOf(4, /*sequence=*/3), batch);
    ASSERT_NE(found, nullptr);
    ASSERT_EQ(found->features.size(), 3u);
    const auto expect = [&](int feature, const std::vector<int32_t>& of_row, const std::vector<int32_t>& holder) {
      EXPECT_EQ(found->features[feature].of_row, of_row) << feature;
      EXPECT_EQ(found->features[feature].holder, holder) << feature;
    };
    expect(0, {0, 1, 0, 2, 1, 0}, {0, 1, 3});
    expect(1, {0, 1, 2, 1, 3, 4}, {0, 1, 2, 4, 5});
    expect(2, {0, 1, 0, 2, 1, 3}, {0, 1, 3, 5});
  }
  at::set_num_threads(1);
}

TEST(IdNumbers, AreNothingWhereNobodyCanUseThem) {
  data::Batch batch = BatchOf({{{7}, {7}}});
  EXPECT_EQ(NumberIds(PlanOf(1), batch), nullptr);  // the reference's arithmetic
  const Using arithmetic("repeated");
  EXPECT_NE(NumberIds(PlanOf(1), batch), nullptr);
  batch.sparse.weights = {1, 2};
  EXPECT_EQ(NumberIds(PlanOf(1), batch), nullptr);
}

TEST(IdNumbers, BecomeColumnsOfAGroupThatPay) {
  const models::EmbeddingPlan plan = PlanOf(3);
  const data::Batch batch = BatchOf({{{1}, {1}, {1}, {1}}, {{1}, {2}, {1}, {2}}, {{1}, {2}, {3}, {1}}});
  {
    const Using arithmetic("sum:4.1 1x1:stock,stock,stock");
    const auto rows = models::RepeatedRowsOf(plan, plan.groups[0], *NumberIds(plan, batch));
    ASSERT_EQ(rows.parts.size(), 1u);  // 3 of 4 rows differ: 4 of 16 multiply-adds are saved
    EXPECT_EQ(rows.parts[0].column, 5);
    EXPECT_EQ(rows.parts[0].distinct, 2);
  }
  const Using arithmetic("sum:3.9 1x1:stock,stock,stock");
  const auto rows = models::RepeatedRowsOf(plan, plan.groups[0], *NumberIds(plan, batch));
  ASSERT_EQ(rows.parts.size(), 2u);
  EXPECT_EQ(rows.parts[1].column, 5 + 16);
  EXPECT_EQ(rows.parts[1].first, 2);
  EXPECT_EQ(rows.of_row, (std::vector<int32_t>{0, 2, 1, 3, 0, 4, 1, 2}));
  EXPECT_EQ(rows.holder, (std::vector<int32_t>{0, 1, 0, 1, 2}));
  EXPECT_EQ(rows.begin, (std::vector<int32_t>{0, 2, 4, 6, 7, 8}));
  EXPECT_EQ(rows.holders, (std::vector<int32_t>{0, 2, 1, 3, 0, 3, 1, 2}));
}

}  // namespace
}  // namespace anneal::embedding
