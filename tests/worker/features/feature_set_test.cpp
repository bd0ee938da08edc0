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
  EXPECT_EQ(price.sides[0].side, "item");
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
      {"raw_feature { }", "FG_NONE", "feature_configs[0].raw_feature: feature_name is missing"},
      {"tokenize_feature { feature_name: 'f' }", "FG_NONE", "feature_configs[0].tokenize_feature is not supported yet"},
      {"id_feature { feature_name: 'f' num_buckets: 3 }", "FG_NONE", "feature f: embedding_dim has to be above 0"},
      {"raw_feature { feature_name: 'f' boundaries: 1 }", "FG_NONE", "feature f: embedding_dim has to be above 0"},
      {"raw_feature { feature_name: 'f' boundaries: [2, 1] embedding_dim: 4 }", "FG_NONE", "not ascending"},
      {"raw_feature { feature_name: 'f' value_dim: 0 }", "FG_NONE", "value_dim has to be above 0"},
      {"raw_feature { feature_name: 'f' mlp { } }", "FG_NONE", "mlp needs an embedding_dim"},
      {"raw_feature { feature_name: 'f' embedding_dim: 4 mlp { } boundaries: 1 }", "FG_NONE", "mlp and boundaries"},
      {"raw_feature { feature_name: 'f' embedding_dim: 4 value_dim: 2 autodis { num_channels: 2 } }", "FG_NONE",
       "autodis needs a value_dim of 1"},
      {"raw_feature { feature_name: 'f' embedding_dim: 4 autodis { num_channels: 0 } }", "FG_NONE", "num_channels"},
      {"raw_feature { feature_name: 'f' embedding_dim: 4 autodis { num_channels: 2 temperature: 0 } }", "FG_NONE",
       "temperature"},
      {"sequence_raw_feature { feature_name: 'f' embedding_dim: 4 mlp { } }", "FG_NONE", "mlp in a sequence"},
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
      {"raw_feature { feature_name: 'f' expression: 'feature:g' }", "FG_DAG", "there is no feature g"},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { One(one.feature, one.mode); }), HasSubstr(one.part)) << one.feature;
    EXPECT_THROW(One(one.feature, one.mode), ConfigError);
  }
}

constexpr const char* kSequences = R"(
  feature_configs { id_feature { feature_name: "item" expression: "item:iid" embedding_dim: 8 num_buckets: 50
                                 embedding_name: "items" } }
  feature_configs { sequence_feature { sequence_name: "click" sequence_length: 12 sequence_delim: "|"
    features { id_feature { feature_name: "item" expression: "item:iid" embedding_dim: 8 num_buckets: 50
                            embedding_name: "items" pooling: "mean" } }
    features { id_feature { feature_name: "cate" expression: "user:cate" embedding_dim: 8 hash_bucket_size: 9 } }
    features { raw_feature { feature_name: "price" expression: "item:price" value_dim: 3 } }
    features { raw_feature { feature_name: "age" expression: "user:age" boundaries: [1, 2] embedding_dim: 4 } } } }
  feature_configs { raw_feature { feature_name: "price" expression: "item:price" value_dim: 2 } }
  feature_configs { sequence_raw_feature { feature_name: "times" expression: "user:times" } }
  feature_configs { sequence_id_feature { feature_name: "tags" expression: "item:taglist" embedding_dim: 4
                                          num_buckets: 7 sequence_length: 5 sequence_delim: "," } })";

TEST(FeatureSet, DenseEmbeddings) {
  const Feature plain = One("raw_feature { feature_name: 'f' embedding_dim: 4 value_dim: 3 }").all()[0];
  EXPECT_FALSE(plain.dense_embedding);
  EXPECT_EQ(plain.output_dim(), 3);
  const Feature mlp = One("raw_feature { feature_name: 'f' embedding_dim: 4 value_dim: 3 mlp { } }").all()[0];
  ASSERT_TRUE(mlp.dense_embedding);
  EXPECT_EQ(mlp.dense_embedding->kind, DenseEmbedding::Kind::kMlp);
  EXPECT_EQ(mlp.output_dim(), 4);
  EXPECT_FALSE(mlp.sparse);
  const FeatureSet set = One("raw_feature { feature_name: 'f' embedding_dim: 6 autodis { num_channels: 5 } }");
  const Feature& autodis = set.all()[0];
  ASSERT_TRUE(autodis.dense_embedding);
  EXPECT_EQ(autodis.dense_embedding->kind, DenseEmbedding::Kind::kAutoDis);
  EXPECT_EQ(autodis.dense_embedding->channels, 5);
  EXPECT_FLOAT_EQ(static_cast<float>(autodis.dense_embedding->keep_prob), 0.8f);
  EXPECT_FLOAT_EQ(static_cast<float>(autodis.dense_embedding->temperature), 0.1f);
  EXPECT_EQ(autodis.output_dim(), 6);
  EXPECT_EQ(set.dense_width(), 1);
}

TEST(FeatureSet, Sequences) {
  const FeatureSet set = Set(kSequences);
  std::vector<std::string> names;
  for (const Feature& feature : set.all()) names.push_back(feature.name);
  EXPECT_THAT(
      names, ElementsAre("item", "click__item", "click__cate", "click__price", "click__age", "price", "times", "tags"));
  const Feature& item = *set.Find("click__item");
  EXPECT_TRUE(item.sequence);
  EXPECT_TRUE(item.sparse);
  EXPECT_EQ(item.value_dim, 1);
  EXPECT_EQ(item.table, "items");
  EXPECT_EQ(item.num_embeddings, 50);
  EXPECT_EQ(item.output_dim(), 8);
  EXPECT_EQ(item.sequence_name, "click");
  EXPECT_EQ(item.sequence_delim, "|");
  EXPECT_EQ(item.sequence_length, 12);
  EXPECT_EQ(item.sides[0].side, "item");
  EXPECT_TRUE(item.user_side());
  EXPECT_EQ(item.index, 1);
  EXPECT_EQ(item.config_index, 1);
  EXPECT_EQ(item.member_index, 0);
  EXPECT_EQ(set.Find("click__cate")->table, "click__cate_emb");
  EXPECT_EQ(set.Find("click__cate")->member_index, 1);
  EXPECT_EQ(set.Find("click__age")->num_embeddings, 3);
  EXPECT_TRUE(set.Find("click__age")->sparse);
  const Feature& price = *set.Find("click__price");
  EXPECT_FALSE(price.sparse);
  EXPECT_TRUE(price.sequence);
  EXPECT_EQ(price.value_dim, 3);
  EXPECT_EQ(price.index, 0);
  const Feature& tags = *set.Find("tags");
  EXPECT_TRUE(tags.sequence);
  EXPECT_EQ(tags.sequence_name, "");
  EXPECT_EQ(tags.sequence_delim, ",");
  EXPECT_EQ(tags.sequence_length, 5);
  EXPECT_FALSE(tags.user_side());
  EXPECT_EQ(set.Find("times")->sequence_delim, ";");
  EXPECT_EQ(set.Find("times")->sequence_length, 0);
  EXPECT_FALSE(set.Find("item")->sequence);
  EXPECT_FALSE(set.Find("item")->user_side());
  EXPECT_THAT(set.sparse(),
              ElementsAre(set.Find("item"), &item, set.Find("click__cate"), set.Find("click__age"), &tags));
  EXPECT_THAT(set.dense(), ElementsAre(set.Find("price")));
  EXPECT_THAT(set.dense_sequences(), ElementsAre(&price, set.Find("times")));
  EXPECT_EQ(set.dense_width(), 2);
}

// parity/features.md 2: inside a sequence_feature every input but another feature's belongs to the sequence.
TEST(FeatureSet, InputsOfSequences) {
  const auto columns = [](const std::string& mode, const std::string& more = "") {
    return Set("data_config { fg_mode: " + mode + " }" + kSequences + more).input_columns();
  };
  for (const char* mode : {"FG_NONE", "FG_BUCKETIZE"}) {
    EXPECT_THAT(columns(mode), ElementsAre("item", "click__item", "click__cate", "click__price", "click__age", "price",
                                           "times", "tags"));
  }
  for (const char* mode : {"FG_NORMAL", "FG_DAG"}) {
    EXPECT_THAT(columns(mode), ElementsAre("iid", "click__iid", "click__cate", "click__price", "click__age", "price",
                                           "times", "taglist"));
  }
  const auto input = [](const std::string& more) {
    return One("sequence_feature { sequence_name: 's' features { id_feature { feature_name: 'f' embedding_dim: 4 "
               "num_buckets: 3 " +
                   more + " } } }",
               "FG_NORMAL")
        .input_columns();
  };
  EXPECT_THAT(input("expression: 'feature:g'"), ElementsAre("g"));
  EXPECT_THAT(input("expression: 'feature:g' sequence_fields: 'g'"), ElementsAre("s__g"));
  EXPECT_THAT(input("expression: 'item:g' sequence_fields: 'g'"), ElementsAre("s__g"));
}

TEST(FeatureSet, StubFeaturesOfSequences) {
  const std::string stub =
      "sequence_feature { sequence_name: 's' features { id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 5 "
      "stub_type: true expression: 'user:f' } } }";
  EXPECT_TRUE(One(stub, "FG_DAG").all().empty());
  EXPECT_THAT(MessageOf([&] { One(stub, "FG_NORMAL"); }), HasSubstr("feature s__f: stub_type"));
}

TEST(FeatureSet, FaultsOfSequences) {
  const std::string id = "id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3 ";
  const std::string raw = "raw_feature { feature_name: 'f' ";
  const auto group = [](const std::string& feature, const std::string& more = "") {
    return "sequence_feature { sequence_name: 's' " + more + " features { " + feature + " } }";
  };
  const struct {
    std::string feature;
    const char *mode, *part;
  } kCases[] = {
      {"sequence_feature { features { " + id + "} } }", "FG_NONE", "feature_configs[0]: sequence_name is missing"},
      {"sequence_feature { sequence_name: 's' }", "FG_NONE", "feature_configs[0]: the sequence \"s\" has no features"},
      {group(id + "}", "sequence_delim: ''"), "FG_NONE", "feature s__f: sequence_delim is empty"},
      {group(""), "FG_NONE", "feature_configs[0].sequence_feature.features[0] holds no feature"},
      {group("raw_feature { }"), "FG_NONE",
       "feature_configs[0].sequence_feature.features[0].raw_feature: feature_name is missing"},
      {group("tokenize_feature { feature_name: 'f' }"), "FG_NONE", "features[0].tokenize_feature is not supported yet"},
      {"sequence_tokenize_feature { feature_name: 'f' }", "FG_NONE", "sequence_tokenize_feature is not supported yet"},
      {group(id + "value_dim: 2 }"), "FG_NONE", "feature s__f: value_dim 2 of a sequence of ids is not supported yet"},
      {group(id + "value_dim: 0 }"), "FG_NONE", "feature s__f: value_dim 0 of a sequence of ids is not supported yet"},
      {group(id + "weighted: true }"), "FG_NONE", "feature s__f: weighted in a sequence is not supported yet"},
      {"sequence_" + id + "value_dim: 3 }", "FG_NONE", "feature f: value_dim 3 of a sequence of ids is not supported"},
      {"sequence_" + id + "weighted: true }", "FG_NONE", "feature f: weighted in a sequence"},
      {"sequence_" + id + "sequence_delim: '' }", "FG_NONE", "feature f: sequence_delim is empty"},
      {group(raw + "boundaries: 1 embedding_dim: 4 value_dim: 2 }"), "FG_NONE",
       "feature s__f: value_dim 2 of a sequence"},
      {group(raw + "value_dim: 0 }"), "FG_NONE", "feature s__f: value_dim has to be above 0"},
      {group(id + "}"), "FG_DAG", "feature s__f: expression is missing"},
      {group(id + "expression: 'const:1' }"), "FG_DAG",
       "feature s__f: expression \"const:1\" gives a sequence a literal"},
      {group(id + "expression: 'user:x' sequence_fields: 'y' }"), "FG_DAG", "feature s__f: sequence_fields"},
      {id + "expression: 'user:x' sequence_fields: 'x' }", "FG_DAG", "feature f: sequence_fields"},
  };
  for (const auto& one : kCases) {
    EXPECT_THAT(MessageOf([&] { One(one.feature, one.mode); }), HasSubstr(one.part)) << one.feature;
    EXPECT_THROW(One(one.feature, one.mode), ConfigError);
  }
  const std::string twice = "feature_configs { " + group(id + "}") + " } ";
  EXPECT_THAT(MessageOf([&] { Set(twice + twice); }), HasSubstr("sequence_name \"s\" is used twice"));
  EXPECT_THAT(MessageOf([&] { Set(twice + "feature_configs { raw_feature { feature_name: 's__f' } }"); }),
              HasSubstr("feature s__f: is configured twice"));
}

// parity/models.md 2.3: another table, but a plain feature of the same group looks that one up as well.
TEST(FeatureSet, SequencesShareAllButPooling) {
  const auto set = [](const std::string& plain, const std::string& sequence) {
    return Set("feature_configs { id_feature { feature_name: 'a' embedding_name: 't' " + plain +
               " } } "
               "feature_configs { sequence_id_feature { feature_name: 'b' embedding_name: 't' " +
               sequence +
               " } }"
               "feature_configs { id_feature { feature_name: 'c' embedding_name: 't' " +
               plain + " } } ");
  };
  EXPECT_EQ(set("embedding_dim: 4 num_buckets: 3", "embedding_dim: 4 num_buckets: 3 pooling: 'mean'").sparse().size(),
            3u);
  for (const char* other : {"embedding_dim: 4 num_buckets: 4", "embedding_dim: 8 num_buckets: 3",
                            "embedding_dim: 4 num_buckets: 3 init_fn: 'x'"}) {
    EXPECT_THAT(MessageOf([&] { set("embedding_dim: 4 num_buckets: 3", other); }),
                HasSubstr("feature b: can not share embedding \"t\" with feature a"));
  }
  EXPECT_THAT(MessageOf([] {
                Set("feature_configs { sequence_id_feature { feature_name: 's' embedding_name: 't' embedding_dim: 4 "
                    "num_buckets: 3 } }"
                    "feature_configs { id_feature { feature_name: 'a' embedding_name: 't' embedding_dim: 4 "
                    "num_buckets: 3 } }"
                    "feature_configs { id_feature { feature_name: 'b' embedding_name: 't' embedding_dim: 4 "
                    "num_buckets: 3 pooling: 'mean' } }");
              }),
              HasSubstr("feature b: can not share embedding \"t\" with feature a: pooling differs"));
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
