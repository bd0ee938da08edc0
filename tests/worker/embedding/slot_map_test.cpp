// Rows find their slots, whether the map has an entry for each row of the table or hashes them.
#include "worker/embedding/slot_map.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>

namespace anneal::embedding {
namespace {

struct Step {
  size_t ids;
  int64_t first, last;
};

class SlotMapTest : public testing::TestWithParam<Step> {};

TEST_P(SlotMapTest, EachRowHasOneSlot) {
  const auto [ids, first, last] = GetParam();
  std::mt19937_64 random(3);
  SlotMap map;
  for (int step = 0; step < 3; ++step) {  // what a step found is forgotten by the next
    map.Clear(ids, first, last);
    std::vector<int64_t> rows;
    std::unordered_map<int64_t, uint32_t> expected;
    for (size_t i = 0; i < ids; ++i) {
      const int64_t row = first + static_cast<int64_t>(random() % static_cast<uint64_t>(last - first));
      uint32_t& entry = map.Find(row, rows);
      const auto [known, fresh] = expected.try_emplace(row, rows.size() + 1);
      EXPECT_EQ(entry, fresh ? 0 : known->second);
      if (fresh) {
        rows.push_back(row);
        entry = static_cast<uint32_t>(rows.size());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranges, SlotMapTest,
                         testing::Values(Step{0, 0, 1}, Step{1, 5, 6}, Step{8192, 0, 3}, Step{5000, 0, 16384},
                                         Step{5000, 700, 17084}, Step{8192, 0, 1'000'000},
                                         Step{300, int64_t{1} << 40, (int64_t{1} << 40) + 5'000'000'000}));

}  // namespace
}  // namespace anneal::embedding
