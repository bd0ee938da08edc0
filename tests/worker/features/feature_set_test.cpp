#include "worker/features/feature_set.h"

#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"
#include "worker/config/error.h"

namespace anneal::features {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

FeatureSet Set(const std::string& text) { return FeatureSet::FromConfig(ParseConfig(text)); }

FeatureSet One(const std::string& feature, const std::string& mode = "FG_NONE") {
  return Set("data_config { fg_mode: " + mode + " } feature_configs { " + feature + " }");
}

TEST(FeatureSet, RowsOfTheTable) {
  const struct {
    const char* feature;
    int64_t rows;
  } kCases[] = {
      {"id_feature { feature_name: 'f' embedding_dim: 4 hash_bucket_size: 1000 }", 1000},
      {"id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 12 }", 12},
      {"id_feature { feature_name: 'f' embedding_dim: 4 vocab_list: ['a', 'b', 'c'] }", 5},
      {"id_feature { feature_name: 'f' embedding_dim: 4 vocab_list: ['a', 'b'] default_bucketize_value: 0 }", 2},
      {"id_feature { feature_name: 'f' embedding_dim: 4 vocab_dict { key: 'a' value: 9 } }", 10},
      {"raw_feature { feature_name: 'f' embedding_dim: 4 boundaries: [1, 2, 3] }", 4},
  };
  for (const auto& one : kCases) {
    const FeatureSet set = One(one.feature);
    EXPECT_EQ(set.all()[0].num_embeddings, one.rows) << one.feature;
    EXPECT_TRUE(set.all()[0].sparse);
    EXPECT_EQ(set.all()[0].output_dim(), 4);
  }
}

TEST(FeatureSet, DefaultsOfAnIdAndARawFeature) {
  const FeatureSet set = Set(R"(
    feature_configs { raw_feature { feature_name: "price" expression: "item:cost" } }
    feature_configs { id_feature { feature_name: "tags" expression: "item:tag_list" embedding_dim: 8 num_buckets: 5
                                   pooling: "mean" embedding_name: "words" init_fn: "nn.init.zeros_" trainable: false
                                   weighted: true value_dim: 3 data_type: "FP16" } }
    feature_configs { raw_feature { feature_name: "vector" expression: "item:vector" value_dim: 4 } }
    feature_configs { id_feature { feature_name: "city" expression: "user:city" embedding_dim: 8 num_buckets: 5 } })");
  ASSERT_EQ(set.all().size(), 4u);
  const Feature& price = set.all()[0];
  EXPECT_FALSE(price.sparse);
  EXPECT_EQ(price.kind, Kind::kRaw);
  EXPECT_EQ(price.value_dim, 1);
  EXPECT_EQ(price.side, "item");
  EXPECT_THAT(price.inputs, ElementsAre("price"));
  const Feature& tags = *set.Find("tags");
  EXPECT_EQ(tags.table, "words");
  EXPECT_EQ(tags.pooling, Pooling::kMean);
  EXPECT_EQ(tags.init_fn, "nn.init.zeros_");
  EXPECT_FALSE(tags.trainable);
  EXPECT_TRUE(tags.weighted);
  EXPECT_EQ(tags.value_dim, 3);
  EXPECT_EQ(tags.data_type, "FP16");
  const Feature& city = *set.Find("city");
  EXPECT_EQ(city.table, "city_emb");
  EXPECT_EQ(city.value_dim, 0);
  EXPECT_EQ(city.pooling, Pooling::kSum);
  EXPECT_TRUE(city.trainable);
  EXPECT_EQ(city.index, 1);
  EXPECT_EQ(city.config_index, 3);
  EXPECT_EQ(set.Find("vector")->dense_column, 1);
  EXPECT_EQ(set.Find("vector")->output_dim(), 4);
  EXPECT_EQ(set.dense_width(), 5);
  EXPECT_TRUE(set.weighted());
  EXPECT_EQ(set.Find("nothing"), nullptr);
  EXPECT_THAT(set.input_columns(), ElementsAre("price", "tags", "vector", "city"));
}

TEST(FeatureSet, InputsFollowTheFgMode) {
  const std::string features = R"(
    feature_configs { id_feature { feature_name: "a" expression: "user:x" embedding_dim: 4 num_buckets: 5 } }
    feature_configs { raw_feature { feature_name: "b" expression: "user:x" } }
    feature_configs { raw_feature { feature_name: "c" expression: "const:7" } })";
  EXPECT_THAT(Set("data_config { fg_mode: FG_NONE }" + features).input_columns(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Set("data_config { fg_mode: FG_BUCKETIZE }" + features).input_columns(), ElementsAre("a", "b", "c"));
  EXPECT_THAT(Set("data_config { fg_mode: FG_NORMAL }" + features).input_columns(), ElementsAre("x", "7"));
  EXPECT_THAT(Set("data_config { fg_mode: FG_DAG }" + features).input_columns(), ElementsAre("x"));
}

TEST(FeatureSet, FgEncodedOverridesTheMode) {
  using namespace tzrec::protos;
  EXPECT_EQ(Set("").fg_mode(), FG_NONE);
  EXPECT_EQ(Set("data_config { fg_mode: FG_NORMAL }").fg_mode(), FG_NORMAL);
  EXPECT_EQ(Set("data_config { fg_mode: FG_NORMAL fg_encoded: true }").fg_mode(), FG_NONE);
  EXPECT_EQ(Set("data_config { fg_encoded: false }").fg_mode(), FG_DAG);
  EXPECT_EQ(Set("data_config { fg_encoded: false fg_threads: 0 }").fg_mode(), FG_NORMAL);
}

TEST(FeatureSet, StubFeaturesAreNoOutputs) {
  const std::string stub =
      "id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 5 stub_type: true "
      "expression: 'user:f' }";
  EXPECT_TRUE(One(stub, "FG_NONE").all().empty());
  EXPECT_TRUE(One(stub, "FG_DAG").input_columns().empty());
  EXPECT_THAT(MessageOf([&] { One(stub, "FG_NORMAL"); }), HasSubstr("feature f: stub_type"));
}

TEST(FeatureSet, Faults) {
  const struct {
    const char *feature, *mode, *part;
  } kCases[] = {
      {"", "FG_NONE", "feature_configs[0] holds no feature"},
      {"raw_feature { }", "FG_NONE", "feature_configs[0]: feature_name is missing"},
      {"combo_feature { feature_name: 'f' }", "FG_NONE", "feature_configs[0]: combo_feature is not supported yet"},
      {"id_feature { feature_name: 'f' num_buckets: 3 }", "FG_NONE", "feature f: embedding_dim has to be above 0"},
      {"raw_feature { feature_name: 'f' boundaries: 1 }", "FG_NONE", "feature f: embedding_dim has to be above 0"},
      {"raw_feature { feature_name: 'f' boundaries: [2, 1] embedding_dim: 4 }", "FG_NONE", "not ascending"},
      {"raw_feature { feature_name: 'f' value_dim: 0 }", "FG_NONE", "value_dim has to be above 0"},
      {"raw_feature { feature_name: 'f' embedding_dim: 4 mlp { } }", "FG_NONE", "mlp is not supported yet"},
      {"id_feature { feature_name: 'f' embedding_dim: 4 }", "FG_NONE", "feature f: needs one of hash_bucket_size"},
      {"id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 0 }", "FG_NONE", "a table of 0 rows"},
      {"id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3 hash_bucket_size: 4 }", "FG_NONE",
       "hash_bucket_size and num_buckets exclude each other"},
      {"id_feature { feature_name: 'f' embedding_dim: 4 zch { zch_size: 9 } }", "FG_NONE", "zch is not supported yet"},
      {"id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3 pooling: 'max' }", "FG_NONE", "pooling \"max\""},
      {"id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3 data_type: 'INT8' }", "FG_NONE", "data_type"},
      {"raw_feature { feature_name: 'f' }", "FG_NORMAL", "feature f: expression is missing"},
      {"raw_feature { feature_name: 'f' expression: 'price' }", "FG_DAG", "expression \"price\" is not"},
      {"raw_feature { feature_name: 'f' expression: 'shop:price' }", "FG_DAG", "expression \"shop:price\" is not"},
      {"raw_feature { feature_name: 'f' expression: 'user:' }", "FG_DAG", "expression \"user:\" is not"},
      {"raw_feature { feature_name: 'f' expression: 'feature:g' }", "FG_DAG", "not supported yet in FG_DAG"},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { One(one.feature, one.mode); }), HasSubstr(one.part)) << one.feature;
    EXPECT_THROW(One(one.feature, one.mode), ConfigError);
  }
}

TEST(FeatureSet, SharedTablesHaveToAgree) {
  const auto pair = [](const std::string& a, const std::string& b) {
    const std::string base = "embedding_name: 't' ";
    return "feature_configs { id_feature { feature_name: 'a' " + base + a + " } } feature_configs { id_feature { " +
           "feature_name: 'b' " + base + b + " } }";
  };
  EXPECT_EQ(Set(pair("embedding_dim: 4 num_buckets: 3", "embedding_dim: 4 hash_bucket_size: 3")).sparse().size(), 2u);
  const struct {
    const char *b, *part;
  } kCases[] = {{"embedding_dim: 4 num_buckets: 4", "the number of rows differs"},
                {"embedding_dim: 8 num_buckets: 3", "embedding_dim differs"},
                {"embedding_dim: 4 num_buckets: 3 pooling: 'mean'", "pooling differs"},
                {"embedding_dim: 4 num_buckets: 3 init_fn: 'x'", "init_fn differs"}};
  for (const auto& one : kCases) {
    const std::string message = MessageOf([&] { Set(pair("embedding_dim: 4 num_buckets: 3", one.b)); });
    EXPECT_THAT(message, testing::AllOf(HasSubstr("feature b: can not share embedding \"t\" with feature a"),
                                        HasSubstr(one.part)));
  }
}

TEST(FeatureSet, NamesAreUnique) {
  EXPECT_THAT(MessageOf([] {
                Set("feature_configs { raw_feature { feature_name: 'a' } } "
                    "feature_configs { raw_feature { feature_name: 'a' } }");
              }),
              HasSubstr("feature a: is configured twice"));
}

TEST(FeatureSet, PointersSurviveAMove) {
  FeatureSet first = One("id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3 }");
  const FeatureSet second = std::move(first);
  EXPECT_EQ(second.sparse()[0], &second.all()[0]);
  EXPECT_EQ(second.Find("f"), &second.all()[0]);
}

}  // namespace
}  // namespace anneal::features
