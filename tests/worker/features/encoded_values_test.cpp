// FG_NONE: values that are encoded already (parity/features.md 3).
#include <gmock/gmock.h>

#include <cmath>

#include "tests/worker/features/feature_case.h"
#include "worker/config/error.h"

namespace anneal::features {
namespace {

using arrow::float32;
using arrow::float64;
using arrow::int32;
using arrow::int64;
using arrow::list;
using arrow::utf8;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Id(const std::string& more = "") {
  return "feature_configs { id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 100 " + more + " } }";
}

std::string Raw(const std::string& more = "") {
  return "feature_configs { raw_feature { feature_name: 'f' " + more + " } }";
}

TEST(EncodedIds, Formats) {
  const struct {
    const char* fields;
    std::shared_ptr<arrow::DataType> type;
    const char* json;
    std::vector<int64_t> values, lengths;
  } kCases[] = {
      // The two golden vectors.
      {"", utf8(), R"(["1\u00032", "", null, "3"])", {1, 2, 3}, {2, 0, 0, 1}},
      {"fg_encoded_default_value: '0'", utf8(), R"(["1\u00032", "", null, "3"])", {1, 2, 0, 0, 3}, {2, 1, 1, 1}},
      {"fg_encoded_default_value: '7\\0038'", utf8(), R"([null, "1"])", {7, 8, 1}, {2, 1}},
      {"", utf8(), R"(["-5", "9223372036854775807"])", {-5, INT64_MAX}, {1, 1}},
      {"", int64(), "[5, 6, 7]", {5, 6, 7}, {1, 1, 1}},
      {"", int64(), "[5, null, 7]", {5, 7}, {1, 0, 1}},
      {"fg_encoded_default_value: '3'", int32(), "[5, null, 7]", {5, 3, 7}, {1, 1, 1}},
      {"", int32(), "[5, 6]", {5, 6}, {1, 1}},
      {"", list(int64()), "[[1, 2], [], null, [3]]", {1, 2, 3}, {2, 0, 0, 1}},
      {"", list(int64()), "[[1, 2], [], [3]]", {1, 2, 3}, {2, 0, 1}},
      {"fg_encoded_default_value: '0'", list(int32()), "[[1, 2], [], null, [3]]", {1, 2, 0, 0, 3}, {2, 1, 1, 1}},
      {"", list(utf8()), R"([["1", "2"], ["3"]])", {1, 2, 3}, {2, 1}},
      {"", arrow::map(utf8(), float64()), R"([[["4", 0.5], ["5", 2]], [], null])", {4, 5}, {2, 0, 0}},
  };
  for (const auto& one : kCases) {
    const data::Batch batch = RunConfig(Id(one.fields), {{"f", one.type, one.json}});
    EXPECT_EQ(batch.sparse.values, one.values) << one.json;
    EXPECT_EQ(Lengths(batch.sparse), one.lengths) << one.json;
    EXPECT_TRUE(batch.sparse.weights.empty());
  }
}

TEST(EncodedIds, SeparatorOfTheConfig) {
  const data::Batch batch =
      RunConfig("data_config { fg_encoded_multival_sep: '<>' }" + Id(), {{"f", utf8(), R"(["1<>2<>3"])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(1, 2, 3));
}

TEST(EncodedIds, BoundariesAreAlreadyApplied) {
  const data::Batch batch = RunConfig(Raw("boundaries: [0.5, 1.5] embedding_dim: 4"), {{"f", int64(), "[2, 0]"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(2, 0));
}

TEST(EncodedIds, Weights) {
  const struct {
    std::shared_ptr<arrow::DataType> type;
    const char* json;
  } kCases[] = {{utf8(), R"(["1:0.5\u00032:2", null])"},
                {list(utf8()), R"([["1:0.5", "2:2"], []])"},
                {arrow::map(int64(), float32()), "[[[1, 0.5], [2, 2]], null]"},
                {arrow::map(utf8(), arrow::utf8()), R"([[["1", "0.5"], ["2", "2"]], null])"},
                {arrow::map(arrow::int32(), int32()), "[[[1, 1], [2, 2]], null]"}};
  for (const auto& one : kCases) {
    const data::Batch batch =
        RunConfig(Id("weighted: true fg_encoded_default_value: '9'"), {{"f", one.type, one.json}});
    EXPECT_THAT(batch.sparse.values, ElementsAre(1, 2, 9)) << one.json;
    const float first = one.type->ToString().find("int32, int32") != std::string::npos ? 1.0f : 0.5f;
    EXPECT_THAT(batch.sparse.weights, ElementsAre(first, 2.0f, 1.0f)) << one.json;
  }
}

// golden/zoo/README.md, semantics 2.
TEST(EncodedIds, OneWeightedFeatureGivesAllOthersOnes) {
  const data::Batch batch = RunConfig(
      "feature_configs { id_feature { feature_name: 'a' embedding_dim: 4 num_buckets: 9 } }" + Id("weighted: true") +
          "feature_configs { id_feature { feature_name: 'b' embedding_dim: 4 num_buckets: 9 } }",
      {{"a", int64(), "[4, 5]"}, {"f", utf8(), R"(["6:0.25", null])"}, {"b", list(int64()), "[[7], [8, 8]]"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(4, 5, 6, 7, 8, 8));
  EXPECT_THAT(batch.sparse.weights, ElementsAre(1, 1, 0.25f, 1, 1, 1));
  EXPECT_THAT(batch.sparse.offsets, ElementsAre(0, 1, 2, 3, 3, 4, 6));
}

TEST(EncodedIds, BadValues) {
  const struct {
    const char* fields;
    std::shared_ptr<arrow::DataType> type;
    const char *json, *part;
  } kCases[] = {
      {"", utf8(), R"(["1", "abc"])", "row 2, column f: \"abc\" is not an integer (feature f)"},
      {"", utf8(), R"(["1\u00032x"])", "row 1, column f: \"2x\" is not an integer"},
      {"", utf8(), R"(["1\u0003"])", "row 1, column f: \"\" is not an integer"},
      {"", utf8(), R"([" 1"])", "\" 1\" is not an integer"},
      {"", utf8(), R"(["99999999999999999999"])", "is not an integer"},
      {"", utf8(), R"(["1\u001d2"])", "\"1\\x1d2\" is not an integer"},
      {"", list(int64()), "[[1], [2, null]]", "row 2, column f: has a null in the list"},
      {"weighted: true", utf8(), R"(["1"])", "\"1\" is not id:weight"},
      {"weighted: true", utf8(), R"(["1:x"])", "\"1:x\" is not id:weight"},
      {"", float32(), "[1.0]", "only support str|int|list<int>|map<int,double>"},
      {"", list(float64()), "[[1.0]]", "only support str|int|list<int>|map<int,double>"},
      {"", list(list(int64())), "[[[1]]]", "only support"},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { RunConfig(Id(one.fields), {{"f", one.type, one.json}}); }), HasSubstr(one.part));
    EXPECT_THROW(RunConfig(Id(one.fields), {{"f", one.type, one.json}}), DataError) << one.json;
  }
  EXPECT_THAT(MessageOf([] { RunConfig(Id(), {{"g", int64(), "[1]"}}); }), HasSubstr("column f is missing"));
  EXPECT_THROW(RunConfig(Id("fg_encoded_default_value: 'x'"), {{"f", int64(), "[1]"}}), ConfigError);
}

TEST(EncodedDense, Formats) {
  const struct {
    const char* fields;
    std::shared_ptr<arrow::DataType> type;
    const char* json;
    std::vector<float> values;
  } kCases[] = {
      {"", float32(), "[0.5, -2]", {0.5f, -2}},
      {"", float64(), "[0.5, -2]", {0.5f, -2}},
      {"", int64(), "[3, 4]", {3, 4}},
      {"", int32(), "[3, 4]", {3, 4}},
      {"", utf8(), R"(["1.5", "2e3"])", {1.5f, 2000}},
      {"fg_encoded_default_value: '0.25'", float32(), "[1, null]", {1, 0.25f}},
      {"fg_encoded_default_value: '0.25'", utf8(), R"(["", null, "3"])", {0.25f, 0.25f, 3}},
      {"value_dim: 3", list(float32()), "[[1, 2, 3], [4, 5, 6]]", {1, 2, 3, 4, 5, 6}},
      {"value_dim: 2", utf8(), R"(["1\u00032", "3\u00034"])", {1, 2, 3, 4}},
      {"value_dim: 2 fg_encoded_default_value: '8\\0039'", list(float64()), "[null, [], [1, 2]]", {8, 9, 8, 9, 1, 2}},
  };
  for (const auto& one : kCases) {
    EXPECT_EQ(RunConfig(Raw(one.fields), {{"f", one.type, one.json}}).dense, one.values) << one.json;
  }
}

TEST(EncodedDense, ANullNumberWithoutADefaultIsNaN) {
  const data::Batch batch = RunConfig(Raw(), {{"f", float32(), "[1, null]"}});
  EXPECT_EQ(batch.dense[0], 1);
  EXPECT_TRUE(std::isnan(batch.dense[1]));
}

TEST(EncodedDense, FeaturesLieSideBySide) {
  const data::Batch batch = RunConfig(Raw() + "feature_configs { raw_feature { feature_name: 'g' value_dim: 2 } }",
                                      {{"g", list(float32()), "[[1, 2], [3, 4]]"}, {"f", float32(), "[7, 8]"}});
  EXPECT_THAT(batch.dense, ElementsAre(7, 1, 2, 8, 3, 4));
}

TEST(EncodedDense, BadValues) {
  const struct {
    const char* fields;
    std::shared_ptr<arrow::DataType> type;
    const char *json, *part;
  } kCases[] = {
      {"", utf8(), R"(["1", "x"])", "row 2, column f: \"x\" is not a number (feature f)"},
      {"", utf8(), R"(["1\u00032"])", "row 1, column f: has 2 values where value_dim is 1"},
      {"", utf8(), R"(["1", null])", "row 2, column f: is missing and the feature has no fg_encoded_default_value"},
      {"value_dim: 2", list(float32()), "[[1, 2], [3]]", "row 2, column f: has 1 values where value_dim is 2"},
      {"value_dim: 2", list(float32()), "[[1, null]]", "has a null in the list"},
      {"value_dim: 2", float32(), "[1]", "one value per row, where value_dim is 2"},
      {"", arrow::map(utf8(), float32()), "[[]]", "only support str|int|float"},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { RunConfig(Raw(one.fields), {{"f", one.type, one.json}}); }), HasSubstr(one.part));
    EXPECT_THROW(RunConfig(Raw(one.fields), {{"f", one.type, one.json}}), DataError);
  }
}

// Slices of sliced arrays: every offset counts.
TEST(EncodedValues, SlicesAreReadWhereTheyBegin) {
  const auto config = ParseConfig(
      Id() +
      "feature_configs { id_feature { feature_name: 'g' embedding_dim: 4 num_buckets: 9 } }"
      "feature_configs { raw_feature { feature_name: 'h' } }"
      "feature_configs { id_feature { feature_name: 'm' embedding_dim: 4 num_buckets: 9 weighted: true } }");
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto all = MakeRows({{"f", utf8(), R"(["10", "11", null, "13", "14"])"},
                             {"g", list(int64()), "[[0, 0], [1], [2, 2], [], [4]]"},
                             {"h", float32(), "[0, 1, 2, 3, 4]"},
                             {"m", arrow::map(int64(), float32()), "[[[0, 0]], [[1, 0.1]], [], [[3, 0.3]], null]"}});
  const auto tail = all->Slice(1);
  const auto file = std::make_shared<const std::string>("part.parquet");
  const std::vector<data::RowSlice> slices = {{tail, 2, 2, file, 4, nullptr, 0}, {all, 1, 1, file, 2, nullptr, 0}};
  data::Batch batch;
  FeatureProgram(set, config, *all->schema()).Run(slices, batch);
  EXPECT_EQ(batch.rows, 3);
  EXPECT_THAT(batch.sparse.values, ElementsAre(13, 14, 11, /*g*/ 4, 1, /*m*/ 3, 1));
  EXPECT_THAT(Lengths(batch.sparse), ElementsAre(1, 1, 1, 0, 1, 1, 1, 0, 1));
  EXPECT_THAT(batch.sparse.weights, ElementsAre(1, 1, 1, 1, 1, 0.3f, 0.1f));
  EXPECT_THAT(batch.dense, ElementsAre(3, 4, 1));
}

TEST(EncodedValues, ABatchIsReusable) {
  const auto config = ParseConfig(Id() + "feature_configs { raw_feature { feature_name: 'h' } }");
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto rows = MakeRows({{"f", int64(), "[1, 2]"}, {"h", float32(), "[3, 4]"}});
  const FeatureProgram program(set, config, *rows->schema());
  data::Batch batch;
  program.Run(rows, batch);
  const int64_t* values = batch.sparse.values.data();
  program.Run(rows, batch);
  EXPECT_THAT(batch.sparse.values, ElementsAre(1, 2));
  EXPECT_THAT(batch.dense, ElementsAre(3, 4));
  EXPECT_EQ(batch.sparse.values.data(), values) << "the second run allocates nothing";
}

}  // namespace
}  // namespace anneal::features
