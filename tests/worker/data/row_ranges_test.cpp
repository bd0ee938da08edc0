#include "worker/data/row_ranges.h"

#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"
#include "worker/config/error.h"

namespace anneal::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ShareOfRows, FirstWorkersTakeOneRowMore) {
  EXPECT_EQ(ShareOfRows(10, 0, 4, 0), (RowRange{0, 3}));
  EXPECT_EQ(ShareOfRows(10, 1, 4, 0), (RowRange{3, 6}));
  EXPECT_EQ(ShareOfRows(10, 2, 4, 0), (RowRange{6, 8}));
  EXPECT_EQ(ShareOfRows(10, 3, 4, 0), (RowRange{8, 10}));
}

TEST(ShareOfRows, ALoneExtraRowIsDropped) {
  // 9 rows, 2 workers, batches of 4: worker 0 would run 4 + 1 where worker 1 runs 4.
  EXPECT_EQ(ShareOfRows(9, 0, 2, 4), (RowRange{0, 4}));
  EXPECT_EQ(ShareOfRows(9, 1, 2, 4), (RowRange{5, 9}));
  EXPECT_EQ(ShareOfRows(9, 0, 2, 3), (RowRange{0, 5})) << "3 + 2 against 3 + 1: equally many batches";
  EXPECT_EQ(ShareOfRows(9, 0, 2, 0), (RowRange{0, 5})) << "not in predict";
  EXPECT_EQ(ShareOfRows(8, 0, 2, 4), (RowRange{0, 4}));
  EXPECT_EQ(ShareOfRows(9, 0, 2, 1), (RowRange{0, 5})) << "batches of one row";
  EXPECT_EQ(ShareOfRows(3, 0, 4, 256), (RowRange{0, 1})) << "fewer rows than workers";
  EXPECT_EQ(ShareOfRows(0, 3, 4, 256), (RowRange{0, 0}));
}

TEST(RemainingRows, RangesEndAtTheNextStart) {
  const std::map<std::string, int64_t> position = {{"a:0", 29}, {"a:50", 99}, {"a:100", 119}, {"b:0", 7}, {"a:x", 1}};
  EXPECT_THAT(RemainingRows(position, "a", 150), ElementsAre(RowRange{30, 50}, RowRange{120, 150}));
  EXPECT_THAT(RemainingRows(position, "b", 8), IsEmpty());
  EXPECT_THAT(RemainingRows(position, "c", 8), ElementsAre(RowRange{0, 8}));
  EXPECT_THAT(RemainingRows({{"a:50", 60}}, "a", 100), ElementsAre(RowRange{0, 50}, RowRange{61, 100}));
  EXPECT_THAT(RemainingRows({}, "a", 0), IsEmpty());
}

TEST(RemainingRows, APositionOfOtherDataIsAnError) {
  for (const auto& position :
       {std::map<std::string, int64_t>{{"a:0", 100}}, std::map<std::string, int64_t>{{"a:50", 20}}}) {
    EXPECT_THAT(features::MessageOf([&] { RemainingRows(position, "a", 100); }),
                HasSubstr("does not fit the 100 rows of a"));
    EXPECT_THROW(RemainingRows(position, "a", 100), DataError);
  }
}

TEST(PartOfRanges, CutsRangesLaidEndToEnd) {
  const std::vector<RowRange> ranges = {{10, 20}, {50, 55}, {90, 100}};
  EXPECT_EQ(CountRows(ranges), 25);
  EXPECT_THAT(PartOfRanges(ranges, {0, 9}), ElementsAre(RowRange{10, 19}));
  EXPECT_THAT(PartOfRanges(ranges, {9, 17}), ElementsAre(RowRange{19, 20}, RowRange{50, 55}, RowRange{90, 92}));
  EXPECT_THAT(PartOfRanges(ranges, {17, 25}), ElementsAre(RowRange{92, 100}));
  EXPECT_THAT(PartOfRanges(ranges, {10, 10}), IsEmpty());
}

}  // namespace
}  // namespace anneal::data
