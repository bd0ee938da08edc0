// expr_feature (parity/features.md 4.12): values of the reference's tests, and its rules. The language:
// expression_test.
#include <cmath>

#include "tests/worker/features/derived_case.h"
#include "worker/features/fg_json.h"

namespace anneal::features {
namespace {

using arrow::float32;
using arrow::float64;
using arrow::int64;
using arrow::list;
using arrow::utf8;

const std::string kSum = "expression: 'a+b' variables: ['user:a', 'item:b'] ";
const std::string kDot = "expression: 'dot(a,b)' variables: ['user:a', 'item:b'] boundaries: [0.05, 0.10, 0.15] ";

TEST(Expr, NumbersOfTheReference) {
  ExpectNumbers("expr_feature",
                {{kSum + "default_value: '0.1'",
                  {{"a", utf8(), R"(["0.2", "", "0.3", null])"}, {"b", float64(), "[0.2, 0.2, 0.2, 0.2]"}},
                  {0.4f, 0.1f, 0.5f, 0.1f}},
                 {kSum + "default_value: '0.1'",
                  {{"a", float64(), "[0.2, 0.1, 0.3, null]"}, {"b", float64(), "[0.2, 0.2, 0.2, 0.2]"}},
                  {0.4f, 0.3f, 0.5f, 0.1f}}});
}

TEST(Expr, BucketsOfTheReference) {
  const std::string sum = kSum + "boundaries: [0.15, 0.25, 0.35] ";
  ExpectIds("expr_feature", {{sum + "default_value: '0.1'",
                              {{"a", float64(), "[0.2, 0.1, 0.3, null]"}, {"b", float64(), "[0.2, 0.2, 0.2, 0.2]"}},
                              {3, 2, 3, 0},
                              {1, 1, 1, 1}},
                             {sum + "default_value: ''",
                              {{"a", utf8(), R"(["0.2", "", "0.3"])"}, {"b", float64(), "[0.2, 0.2, 0.2]"}},
                              {3, 3},
                              {1, 0, 1}},
                             {kDot + "default_value: '0.1'",
                              {{"a", list(float64()), "[[0.2, 0.3], [0.1, 0.2], [0.3, 0.4], []]"},
                               {"b", list(float64()), "[[0.2, 0.2], [0.2, 0.2], [0.2, 0.2], [0.2, 0.2]]"}},
                              {2, 1, 2, 1},
                              {1, 1, 1, 1}},
                             {kDot + "default_value: ''",
                              {{"a", utf8(), R"(["0.2\u001d0.3", "", "0.3\u001d0.4"])"},
                               {"b", utf8(), R"(["0.2\u001d0.2", "0.2\u001d0.2", "0.2\u001d0.2"])"}},
                              {2, 2},
                              {1, 0, 1}}});
}

TEST(Expr, Numbers) {
  const auto floats = list(float32());
  ExpectNumbers(
      "expr_feature",
      {{"expression: 'age >= 18 && age < 65 ? log(age + 1) : -1' variables: 'user:age'",
        {{"age", int64(), "[17, 18, 64, 65, null]"}},
        {-1, std::log(19.0f), std::log(65.0f), -1, 0}},
       // A vector: value_dim numbers of it, unset the first.
       {"expression: 'a * b' variables: ['user:a', 'item:b'] value_dim: 2",
        {{"a", floats, "[[1, 2], [3, 4]]"}, {"b", float32(), "[10, 100]"}},
        {10, 20, 300, 400}},
       {"expression: 'a * b' variables: ['user:a', 'item:b']",
        {{"a", floats, "[[1, 2], [3, 4], []]"}, {"b", float32(), "[10, 100, 1]"}},
        {10, 300, 0}},
       {"expression: 'a + b' variables: ['user:a', 'item:b'] value_dim: 3 fill_missing: -1",
        {{"a", utf8(), R"(["1\u001d2\u001d3"])"}, {"b", floats, "[[10, 20]]"}},
        {11, 22, 2}},
       {"expression: 'l2_norm(a) * b' variables: ['user:a', 'item:b'] separator: ','",
        {{"a", utf8(), R"(["3,4", "5"])"}, {"b", float32(), "[10, null]"}},
        {50, 0}},
       // A NaN of the data is a value.
       {"expression: 'isnan(a) ? 7 : a' variables: 'user:a'", {{"a", float32(), "[NaN, 2, null]"}}, {7, 2, 0}},
       {"expression: 'isnan(a) ? 0 : a' variables: 'user:a' value_dim: 3 separator: ','",
        {{"a", utf8(), R"(["1,,3"])"}},
        {1, 0, 3}},
       // A variable that the expression does not use has to be there all the same.
       {"expression: 'a' variables: ['user:a', 'item:b'] default_value: '9'",
        {{"a", float32(), "[1, 2]"}, {"b", float32(), "[null, 1]"}},
        {9, 2}}});
}

TEST(Expr, AllValuesAreBuckets) {
  ExpectIds("expr_feature", {{"expression: 'a * 2' variables: 'user:a' value_dim: 0 boundaries: [1, 3, 5]",
                              {{"a", list(float32()), "[[1, 2], [3], []]"}},
                              {1, 2, 3, 0},
                              {2, 1, 1}}});
}

TEST(Expr, OfAnotherFeature) {
  const data::Batch batch = RunConfig(
      R"(data_config { fg_mode: FG_DAG }
         feature_configs { raw_feature { feature_name: 'age' expression: 'user:years' default_value: '30' } }
         feature_configs { expr_feature { feature_name: 'gap' expression: 'abs(age - i_age) / ten'
           variables: ['feature:age', 'item:i_age', 'feature:ten'] } }
         feature_configs { raw_feature { feature_name: 'ten' expression: 'const:10' stub_type: true } })",
      {{"years", int64(), "[20, null]"}, {"i_age", float32(), "[25, 25]"}});
  EXPECT_EQ(batch.dense, (data::Buffer<float>{20, 0.5f, 30, 0.5f}));
}

TEST(Expr, InSequences) {
  const std::vector<Column> columns = {{"now", float64(), "[10, 20, 30]"},
                                       {"times", list(float64()), "[[1, 2], [3], []]"},
                                       {"s__times", utf8(), R"(["1;2", "3", null])"}};
  const std::string body = "expression: 'now - times' variables: ['user:now', 'item:times'] ";
  const std::vector<std::string> configs = {
      "feature_configs { sequence_expr_feature { feature_name: 'f' sequence_length: 9 " + body + "} }",
      "feature_configs { sequence_expr_feature { feature_name: 'f' sequence_fields: 'times' expression: 'now - times' "
      "variables: ['user:now', 'user:times'] } }",
      "feature_configs { sequence_feature { sequence_name: 's' sequence_length: 9 sequence_delim: ';' features { "
      "expr_feature { feature_name: 'f' " +
          body + "} } } }"};
  for (const std::string& config : configs) {
    const data::Batch batch = RunConfig("data_config { fg_mode: FG_DAG } " + config, columns);
    ASSERT_EQ(batch.dense_sequences.size(), 1u);
    EXPECT_EQ(batch.dense_sequences[0].values, (data::Buffer<float>{9, 8, 17, 0})) << config;
    EXPECT_EQ(batch.dense_sequences[0].offsets, (data::Buffer<int64_t>{0, 2, 3, 4})) << config;
  }
  const data::Batch batch = RunConfig(
      "data_config { fg_mode: FG_DAG } feature_configs { sequence_expr_feature { feature_name: 'f' "
      "embedding_dim: 4 boundaries: [0, 8.5, 10] " +
          body + "} }",
      columns);
  EXPECT_EQ(batch.sparse.values, (data::Buffer<int64_t>{2, 1, 3, 1}));
  EXPECT_EQ(batch.sparse.offsets, (data::Buffer<int64_t>{0, 2, 3, 4}));
}

TEST(Expr, RandomNumbersFollowTheRow) {
  const auto config = ParseConfig(OneFeature("expr_feature", "expression: 'a + rnd()' variables: 'user:a'"));
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto rows = MakeRows({{"a", int64(), "[0, 0, 0, null, 0, 0]"}});
  const FeatureProgram program(set, config, *rows->schema());
  data::Batch all, late;
  program.Run(rows, all);
  const data::RowSlice slice{rows, 4, 2, nullptr, 5, nullptr, 4};
  program.Run({&slice, 1}, late);
  EXPECT_EQ(late.dense, (data::Buffer<float>{all.dense[4], all.dense[5]}));
  EXPECT_NE(all.dense[0], all.dense[1]);
  EXPECT_EQ(all.dense[3], 0);
}

TEST(Expr, OwnColumns) {
  const std::string fields = "expression: 'a+b' variables: ['user:a', 'item:b'] ",
                    buckets = fields + "boundaries: [1] ";
  EXPECT_EQ(
      RunOwnColumn("expr_feature", fields + "fg_encoded_default_value: '0.5'", "FG_NONE", utf8(), R"([null, "0.25"])")
          .dense,
      (data::Buffer<float>{0.5f, 0.25f}));
  EXPECT_EQ(RunOwnColumn("expr_feature", buckets, "FG_NONE", utf8(), R"(["1", "", null, "3"])").sparse.values,
            (data::Buffer<int64_t>{1, 3}));
  EXPECT_EQ(RunOwnColumn("expr_feature", buckets, "FG_BUCKETIZE", float32(), "[0.5, 1]").sparse.values,
            (data::Buffer<int64_t>{0, 1}));
}

TEST(Expr, BadData) {
  ExpectBad("expr_feature", {{kSum,
                              {{"a", utf8(), R"(["0.2", "x"])"}, {"b", float64(), "[0.2, 0.2]"}},
                              "row 2, column a: \"x\" is not a number (feature f)"},
                             {kSum, {{"a", utf8(), "[]"}, {"b", arrow::boolean(), "[]"}}, "column b has dtype bool"},
                             {"expression: 'l2_norm(a) * b' variables: ['user:a', 'item:b']",
                              {{"a", float64(), "[1]"}, {"b", list(float64()), "[[1, 2]]"}},
                              "variable b has 2 values, where one is needed"},
                             {"expression: 'a' variables: 'user:a' value_dim: 2",
                              {{"a", list(float64()), "[[1, 2], [1, 2, 3]]"}},
                              "has 3 values where value_dim is 2"}});
}

// parity/features.md 8.
TEST(Expr, FgJson) {
  const auto entry = [](const std::string& kind, const std::string& fields) {
    return FgJson(ParseConfig(OneFeature(kind, fields)))["features"][0].dump();
  };
  const std::string fields = "expression: 'a+b' variables: ['user:a', 'item:b'] ";
  EXPECT_EQ(entry("expr_feature", fields),
            R"({"feature_type":"expr_feature","feature_name":"f","expression":"a+b","variables":["user:a","item:b"],)"
            R"("default_value":"0","value_type":"float"})");
  EXPECT_EQ(entry("expr_feature",
                  fields + "separator: '|' fill_missing: 0.5 boundaries: [1, 2] value_dim: 0 stub_type: true"),
            R"({"feature_type":"expr_feature","feature_name":"f","expression":"a+b","variables":["user:a","item:b"],)"
            R"("default_value":"0","value_type":"float","separator":"|","fill_missing":0.5,"boundaries":[1.0,2.0],)"
            R"("value_dim":0,"stub_type":true})");
  EXPECT_EQ(entry("sequence_expr_feature", fields + "default_value: '' sequence_length: 5"),
            R"({"feature_type":"sequence_expr_feature","feature_name":"f","expression":"a+b",)"
            R"("variables":["user:a","item:b"],"default_value":"0","value_type":"float","sequence_delim":";",)"
            R"("sequence_length":5})");
}

}  // namespace
}  // namespace anneal::features
