// `feature:` and `const:` inputs in FG_DAG (parity/features.md 1, 2, 4.1, 6).
#include "tests/worker/features/derived_case.h"

namespace anneal::features {
namespace {

using arrow::float64;
using arrow::int64;
using arrow::list;
using arrow::utf8;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kDag = "data_config { fg_mode: FG_DAG } ";

std::string Feature(const std::string& fields) { return "feature_configs { " + fields + " } "; }

TEST(FeatureInputs, ValuesComeBeforeBuckets) {
  // Of an id: its texts, cut to value_dim, the default where there are none. "1_x", "1_y", "d_x" are looked up.
  const std::string words = Feature(
      "id_feature { feature_name: 'a' expression: 'user:a' embedding_dim: 4 "
      "hash_bucket_size: 10 value_dim: 1 default_value: 'd' stub_type: true }");
  data::Batch batch =
      RunConfig(kDag + words +
                    Feature("combo_feature { feature_name: 'f' expression: ['feature:a', 'item:b'] embedding_dim: 4 "
                            "vocab_list: ['1_x', '1_y', 'd_x'] default_bucketize_value: 0 }"),
                {{"a", utf8(), R"(["1\u001d2", "1", null])"}, {"b", utf8(), R"(["x", "y", "x"])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(0, 1, 2));

  // Of a number: normalized, defaults as they are (4.1); in buckets it is the number itself.
  const std::string number = Feature(
      "raw_feature { feature_name: 'a' expression: 'user:a' boundaries: [1, 2] "
      "embedding_dim: 4 normalizer: 'method=minmax,min=0,max=2' default_value: '3' }");
  batch =
      RunConfig(kDag + number + Feature("raw_feature { feature_name: 'f' expression: 'feature:a' }") +
                    Feature("combo_feature { feature_name: 'g' expression: ['feature:a', 'const:k'] embedding_dim: 4 "
                            "vocab_list: ['0.5_k', '1_k', '3_k'] default_bucketize_value: 0 }"),
                {{"a", float64(), "[1, 2, null]"}});
  EXPECT_THAT(batch.dense, ElementsAre(0.5, 1, 3));
  EXPECT_THAT(batch.sparse.values, ElementsAre(0, 1, 2, 0, 1, 2));

  // Of a combination: of combinations. A literal may hold several values.
  batch =
      RunConfig(kDag +
                    Feature("combo_feature { feature_name: 'g' expression: ['feature:f', 'item:b'] embedding_dim: 4 "
                            "vocab_list: ['x_1_y', 'x_2_y'] default_bucketize_value: 0 }") +
                    Feature("combo_feature { feature_name: 'f' expression: ['user:a', 'const:1,2'] separator: ',' "
                            "embedding_dim: 4 vocab_list: ['x_1', 'x_2'] default_bucketize_value: 1 }"),
                {{"a", utf8(), R"(["x"])"}, {"b", utf8(), R"(["y"])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(0, 1, 0, 1));
}

TEST(FeatureInputs, OfSequences) {
  const std::string ids = Feature(
      "sequence_id_feature { feature_name: 's' expression: 'user:s' embedding_dim: 4 hash_bucket_size: 10 "
      "sequence_length: 2 stub_type: true }");
  const std::string combo = Feature(
      "sequence_combo_feature { feature_name: 'f' expression: ['feature:s', 'item:b'] embedding_dim: 4 "
      "sequence_fields: 's' vocab_list: ['1_x', '2_x', '0_x'] default_bucketize_value: 0 }");
  const data::Batch batch =
      RunConfig(kDag + ids + combo, {{"s", utf8(), R"(["1;2;3", null])"}, {"b", utf8(), R"(["x", "x"])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(0, 1, 2));
  EXPECT_THAT(Lengths(batch.sparse), ElementsAre(2, 1));
}

TEST(FeatureInputs, ColumnsAndSides) {
  const std::string ab = Feature(
      "combo_feature { feature_name: 'ab' expression: ['user:a', 'user:b'] "
      "embedding_dim: 4 hash_bucket_size: 10 stub_type: true }");
  const std::string features =
      ab +
      Feature(
          "combo_feature { feature_name: 'f' expression: ['feature:ab', 'user:c'] embedding_dim: 4 "
          "hash_bucket_size: 10 }") +
      Feature(
          "combo_feature { feature_name: 'g' expression: ['feature:f', 'item:a'] embedding_dim: 4 "
          "hash_bucket_size: 10 }");
  const FeatureSet dag = FeatureSet::FromConfig(ParseConfig(kDag + features));
  EXPECT_THAT(dag.input_columns(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(dag.Find("f")->inputs, ElementsAre("a", "b", "c"));
  EXPECT_TRUE(dag.Find("f")->user_side());
  EXPECT_FALSE(dag.Find("g")->user_side());
  EXPECT_EQ(dag.Find("ab"), nullptr);
  // Without the graph, features and literals are columns.
  const std::string normal = "data_config { fg_mode: FG_NORMAL } ";
  const FeatureSet set = FeatureSet::FromConfig(
      ParseConfig(normal + Feature("combo_feature { feature_name: 'f' expression: ['feature:ab', 'const:c', 'user:d'] "
                                   "embedding_dim: 4 hash_bucket_size: 10 }")));
  EXPECT_THAT(set.input_columns(), ElementsAre("ab", "c", "d"));
  EXPECT_FALSE(set.Find("f")->user_side());
  EXPECT_THAT(MessageOf([&] { FeatureSet::FromConfig(ParseConfig(normal + ab)); }),
              HasSubstr("feature ab: stub_type is not allowed in FG_NORMAL"));
}

TEST(FeatureInputs, AValueOfTheWrongKindIsTheConfigsFault) {
  const auto run = [] {
    RunConfig(
        "data_config { fg_mode: FG_DAG } feature_configs { raw_feature { feature_name: 'r' expression: 'user:a' } } "
        "feature_configs { id_feature { feature_name: 'f' expression: 'feature:r' num_buckets: 9 embedding_dim: 4 } }",
        {{"a", arrow::float64(), "[1.5]"}});
  };
  EXPECT_THAT(MessageOf(run),
              testing::HasSubstr("feature f: the value of r is list<item: float>, which it cannot read"));
  EXPECT_THROW(run(), ConfigError);
}

TEST(FeatureInputs, CirclesAndUnknownNames) {
  const auto combo = [](const std::string& name, const std::string& input) {
    return Feature("combo_feature { feature_name: '" + name + "' expression: ['" + input +
                   "', 'user:x'] embedding_dim: 4 hash_bucket_size: 10 }");
  };
  const auto fault = [](const std::string& features) {
    return MessageOf([&] { FeatureSet::FromConfig(ParseConfig(kDag + features)); });
  };
  EXPECT_EQ(fault(combo("a", "feature:b") + combo("b", "feature:c") + combo("c", "feature:b")),
            "feature b: is made of itself: b -> c -> b");
  EXPECT_EQ(fault(combo("a", "feature:a")), "feature a: is made of itself: a -> a");
  EXPECT_EQ(fault(combo("a", "feature:z")), "feature a: there is no feature z for it to read");
}

}  // namespace
}  // namespace anneal::features
