// FG_NORMAL, FG_DAG and FG_BUCKETIZE: raw values and what is made of them (parity/features.md 4.1-4.7).
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/worker/features/feature_case.h"
#include "worker/config/error.h"

namespace anneal::features {
namespace {

using arrow::float32;
using arrow::int32;
using arrow::int64;
using arrow::list;
using arrow::utf8;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Mode(const std::string& mode) { return "data_config { fg_mode: " + mode + " } "; }

std::string Id(const std::string& fields) {
  return "feature_configs { id_feature { feature_name: 'f' expression: 'user:x' embedding_dim: 4 " + fields + " } }";
}

std::string Raw(const std::string& fields) {
  return "feature_configs { raw_feature { feature_name: 'f' expression: 'user:x' " + fields + " } }";
}

TEST(GeneratedIds, Formats) {
  const auto weights = arrow::map(utf8(), float32());
  const struct {
    const char* fields;
    std::shared_ptr<arrow::DataType> type;
    const char* json;
    std::vector<int64_t> values, lengths;
  } kCases[] = {
      // Hashing, golden rows of 4.2.
      {"hash_bucket_size: 100", utf8(), R"(["abc\u001defg", "hij", "", null])", {33, 44, 66}, {2, 1, 0, 0}},
      {"hash_bucket_size: 100 default_value: 'xyz'", utf8(), R"(["", null, "0"])", {13, 13, 26}, {1, 1, 1}},
      {"hash_bucket_size: 100", int64(), "[1, 2, null, 3]", {95, 70, 13}, {1, 1, 0, 1}},
      {"hash_bucket_size: 10", int32(), "[1, 3, 5]", {5, 3, 9}, {1, 1, 1}},
      {"hash_bucket_size: 100", list(utf8()), R"([["x", "y", "z"], []])", {35, 30, 54}, {3, 0}},
      {"hash_bucket_size: 100", list(int64()), "[[1, 2]]", {95, 70}, {2}},
      {"hash_bucket_size: 100 fg_value_type: 'int64'", utf8(), R"(["001"])", {95}, {1}},
      {"hash_bucket_size: 100 separator: ','", utf8(), R"(["1,2,,3", ","])", {95, 70, 13}, {3, 0}},
      {"hash_bucket_size: 100", weights, R"([[["1", 0.5], ["2", 1]]])", {95, 70}, {2}},
      // value_dim: 1 keeps the first value, 0 all, n at most n.
      {"hash_bucket_size: 100 value_dim: 1", utf8(), R"(["abc\u001defg"])", {33}, {1}},
      {"hash_bucket_size: 100 value_dim: 2", list(int64()), "[[1, 2, 3], [4]]", {95, 70, 56}, {2, 1}},
      // Vocabularies, golden vectors of 4.3.
      {"vocab_list: ['abc', 'efg']", utf8(), R"(["abc\u001defg", "hij", ""])", {2, 3, 1}, {2, 1, 0}},
      {"vocab_list: ['abc', 'efg'] default_value: 'xyz'", utf8(), R"(["", "xyz"])", {0, 0}, {1, 1}},
      {"vocab_list: ['abc', 'efg'] default_value: 'abc'", utf8(), R"([null])", {2}, {1}},
      {"vocab_list: ['7', '8'] default_bucketize_value: 1", int64(), "[7, 8, 9]", {0, 1, 1}, {1, 1, 1}},
      {"vocab_dict { key: 'a' value: 5 }", utf8(), R"(["a", "b"])", {5, 1}, {1, 1}},
      // num_buckets; ids outside are the lookup's business.
      {"num_buckets: 10", utf8(), R"(["3", "12"])", {3, 12}, {1, 1}},
      {"num_buckets: 10 default_value: '4'", int64(), "[3, null]", {3, 4}, {1, 1}},
      {"num_buckets: 10", int64(), "[3, 11]", {3, 11}, {1, 1}},
  };
  for (const auto& one : kCases) {
    for (const char* mode : {"FG_NORMAL", "FG_DAG"}) {
      const data::Batch batch = RunConfig(Mode(mode) + Id(one.fields), {{"x", one.type, one.json}});
      EXPECT_EQ(batch.sparse.values, one.values) << one.fields << one.json;
      EXPECT_EQ(Lengths(batch.sparse), one.lengths) << one.fields << one.json;
    }
  }
}

TEST(GeneratedIds, Weights) {
  const std::string config = Mode("FG_DAG") + Id("hash_bucket_size: 100 weighted: true default_value: '3'");
  data::Batch batch = RunConfig(config, {{"x", utf8(), R"(["1:0.5\u001d2", ""])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(95, 70, 13));
  EXPECT_THAT(batch.sparse.weights, ElementsAre(0.5f, 1, 1));
  batch = RunConfig(config, {{"x", arrow::map(int64(), arrow::float64()), "[[[1, 0.5], [2, 3]], []]"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(95, 70, 13));
  EXPECT_THAT(batch.sparse.weights, ElementsAre(0.5f, 3, 1));
}

TEST(GeneratedIds, FarmHashByEnvironment) {
  ASSERT_EQ(setenv("USE_FARM_HASH_TO_BUCKETIZE", "true", 1), 0);
  const data::Batch batch = RunConfig(Mode("FG_DAG") + Id("hash_bucket_size: 100"), {{"x", int64(), "[1, 2, 3]"}});
  unsetenv("USE_FARM_HASH_TO_BUCKETIZE");
  EXPECT_THAT(batch.sparse.values, ElementsAre(49, 59, 21));
}

// 4.5: boundaries [-0.5, 0.5, 1.5, 2.5]: 1.5 -> 3, 0 -> 1.
TEST(GeneratedIds, Boundaries) {
  const std::string fields = "embedding_dim: 4 boundaries: [-0.5, 0.5, 1.5, 2.5] ";
  const struct {
    std::string fields;
    std::shared_ptr<arrow::DataType> type;
    const char* json;
    std::vector<int64_t> values, lengths;
  } kCases[] = {
      {fields, float32(), "[1.5, 0, -1, 99, null]", {3, 1, 0, 4, 1}, {1, 1, 1, 1, 1}},
      {fields, arrow::float64(), "[1.5, 0]", {3, 1}, {1, 1}},
      {fields, utf8(), R"(["1.5\u001d0", ""])", {3, 1}, {1, 1}},
      {fields + "default_value: ''", float32(), "[null, 1]", {2}, {0, 1}},
      {fields + "value_dim: 2", list(float32()), "[[1.5, 0], [2, 3], null]", {3, 1, 3, 4, 1, 1}, {2, 2, 2}},
      {fields + "value_dim: 2", utf8(), R"(["1.5\u001d0"])", {3, 1}, {2}},
      {fields, int64(), "[1, 2]", {2, 3}, {1, 1}},
      // The normalizer comes first, but not for the default.
      {fields + "normalizer: 'method=log10' default_value: '100'", float32(), "[100, null]", {3, 4}, {1, 1}},
  };
  for (const auto& one : kCases) {
    const data::Batch batch = RunConfig(Mode("FG_NORMAL") + Raw(one.fields), {{"x", one.type, one.json}});
    EXPECT_EQ(batch.sparse.values, one.values) << one.json;
    EXPECT_EQ(Lengths(batch.sparse), one.lengths) << one.json;
  }
}

TEST(GeneratedDense, Formats) {
  const struct {
    const char* fields;
    std::shared_ptr<arrow::DataType> type;
    const char* json;
    std::vector<float> values;
  } kCases[] = {
      {"", float32(), "[1, null]", {1, 0}},
      {"default_value: '5'", utf8(), R"(["", "2"])", {5, 2}},
      {"default_value: ''", utf8(), R"([""])", {0}},
      {"", utf8(), R"(["1\u001d2"])", {1}},
      {"", list(float32()), "[[3, 4], []]", {3, 0}},
      // 4.1: the default bypasses the normalizer.
      {"normalizer: 'method=log10' default_value: '0.01'", float32(), "[1000, null]", {3, 0.01f}},
      {"normalizer: 'method=minmax,min=0,max=10' value_dim: 2 separator: ','", utf8(), R"(["5,10"])", {0.5f, 1}},
      {"value_dim: 2 default_value: '1\\0352'", utf8(), R"([null])", {1, 2}},
      {"value_dim: 2 default_value: '1'", list(int64()), "[null, [3, 4]]", {1, 1, 3, 4}},
  };
  for (const auto& one : kCases) {
    EXPECT_EQ(RunConfig(Mode("FG_DAG") + Raw(one.fields), {{"x", one.type, one.json}}).dense, one.values) << one.json;
  }
}

TEST(GeneratedValues, LiteralsOfTheDag) {
  const data::Batch batch = RunConfig(
      Mode("FG_DAG") +
          "feature_configs { id_feature { feature_name: 'a' expression: 'const:abc' embedding_dim: 4 "
          "hash_bucket_size: 100 } }"
          "feature_configs { raw_feature { feature_name: 'b' expression: 'const:1000' normalizer: 'method=log10' } }" +
          Raw(""),
      {{"x", float32(), "[1, 2]"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(33, 33));
  EXPECT_THAT(batch.dense, ElementsAre(3, 1, 3, 2));
}

TEST(GeneratedValues, OneColumnFeedsManyFeatures) {
  const data::Batch batch = RunConfig(Mode("FG_NORMAL") + Id("hash_bucket_size: 100") +
                                          "feature_configs { raw_feature { feature_name: 'g' expression: 'user:x' } }",
                                      {{"x", int64(), "[1, 2]"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(95, 70));
  EXPECT_THAT(batch.dense, ElementsAre(1, 2));
}

TEST(GeneratedValues, BucketizeOnlySkipsTheNormalizer) {
  const data::Batch batch =
      RunConfig(Mode("FG_BUCKETIZE") + Id("hash_bucket_size: 100") +
                    "feature_configs { raw_feature { feature_name: 'g' expression: 'user:x' embedding_dim: 4 "
                    "boundaries: [1, 2] normalizer: 'method=log10' } }",
                {{"f", utf8(), R"(["abc"])"}, {"g", float32(), "[1.5]"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(33, 1));
}

TEST(GeneratedValues, Faults) {
  const struct {
    std::string feature;
    std::shared_ptr<arrow::DataType> type;
    const char *json, *part;
  } kCases[] = {
      {Id("num_buckets: 10"), utf8(), R"(["1", "2.5"])", "row 2, column x: \"2.5\" is not an integer (feature f)"},
      {Id("hash_bucket_size: 10"), float32(), "[1]", "only support str|int"},
      {Id("hash_bucket_size: 10 weighted: true"), utf8(), R"(["a:b"])", "\"a:b\" is not id:weight"},
      {Raw(""), utf8(), R"(["1", "2", "1,5"])", "row 3, column x: \"1,5\" is not a number"},
      {Raw("value_dim: 2"), list(float32()), "[[1, 2, 3]]", "has 3 values where value_dim is 2"},
      {Raw("value_dim: 2 embedding_dim: 4 boundaries: 1"), list(float32()), "[[1]]", "has 1 values where value_dim"},
      {Raw("embedding_dim: 4 boundaries: 1"), utf8(), R"(["z"])", "\"z\" is not a number"},
      {Id("num_buckets: 10 default_value: 'none'"), utf8(), R"(["1"])", "default value \"none\": \"none\" is not an"},
      {Raw("default_value: 'none'"), utf8(), R"(["1"])", "default value \"none\" is not a number"},
      {Raw("value_dim: 3 default_value: '1\\0352'"), utf8(), R"(["1"])", "has 2 values where value_dim is 3"},
      {Raw("normalizer: 'method=x'"), utf8(), R"(["1"])", "unknown method x"},
      {Id("hash_bucket_size: 10 separator: ''"), utf8(), R"(["1"])", "feature f: separator is empty"},
      {Id("hash_bucket_size: 10 fg_value_type: 'float'"), utf8(), R"(["1"])", "fg_value_type \"float\""},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] {
                  RunConfig(Mode("FG_NORMAL") + one.feature, {{"x", one.type, one.json}});
                }),
                HasSubstr(one.part));
  }
}

}  // namespace
}  // namespace anneal::features
