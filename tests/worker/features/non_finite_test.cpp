#include "worker/features/non_finite.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "tests/worker/features/feature_case.h"

namespace anneal::features {
namespace {

TEST(NonFinite, IsFoundAnywhere) {
  for (const size_t size : {1, 15, 16, 17, 64, 100}) {
    std::vector<float> values(size, std::numeric_limits<float>::max());
    EXPECT_FALSE(AnyNonFinite(values));
    for (size_t at = 0; at < size; ++at) {
      for (const float bad : {std::nanf(""), -std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
        values[at] = bad;
        EXPECT_TRUE(AnyNonFinite(values)) << size << " " << at;
      }
      values[at] = -std::numeric_limits<float>::denorm_min();
    }
  }
  EXPECT_FALSE(AnyNonFinite({}));
}

/// The log of a run over the rows, cut into slices of a file.
std::string LogOf(const std::string& config_text, const std::vector<Column>& columns) {
  const tzrec::protos::EasyRecConfig config = ParseConfig(config_text);
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto rows = MakeRows(columns);
  const FeatureProgram program(set, config, *rows->schema());
  const auto file = std::make_shared<const std::string>("part.parquet");
  const std::vector<data::RowSlice> slices = {{rows, 0, 2, file, 101}, {rows, 2, rows->num_rows() - 2, file, 203}};
  data::Batch batch;
  testing::internal::CaptureStderr();
  program.Run(slices, batch);
  program.Run(slices, batch);
  return testing::internal::GetCapturedStderr();
}

TEST(NonFinite, WarnsOncePerFeature) {
  const std::string log = LogOf(
      R"(feature_configs { raw_feature { feature_name: "price_a" } } feature_configs { raw_feature { feature_name: "good" } }
         feature_configs { raw_feature { feature_name: "vector" value_dim: 2 } }
         feature_configs { sequence_raw_feature { feature_name: "times" sequence_length: 5 sequence_delim: ";" } })",
      {{"price_a", arrow::float32(), "[1, 2, null, NaN]"},
       {"good", arrow::float32(), "[1, 2, 3, 4]"},
       {"vector", arrow::list(arrow::float64()), "[[1, 2], [3, 1e300], [Inf, NaN], [1, 2]]"},
       {"times", arrow::list(arrow::float32()), "[[1], [2, 3], [], [4, NaN]]"}});
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 3) << log;
  EXPECT_THAT(log, testing::HasSubstr("feature price_a: part.parquet row 203: a value is NaN"));
  EXPECT_THAT(log, testing::HasSubstr("feature vector: part.parquet row 102: a value is infinite"));
  EXPECT_THAT(log, testing::HasSubstr("feature times: part.parquet row 204: a value is NaN"));
}

}  // namespace
}  // namespace anneal::features
