// Faults of features with several inputs, with their places (parity/features.md 1, 2, 4.8-4.16, 7).
#include "worker/config/feature_rules.h"

#include <gmock/gmock.h>

#include "tests/worker/config/feature_faults.h"

namespace anneal::config {
namespace {

std::string One(const std::string& kind, const std::string& fields) {
  return "feature_configs { " + kind + " { feature_name: 'f' " + fields + " } }\n";
}

TEST(FeatureRules, GoodFeatures) {
  const std::string features =
      One("combo_feature", "expression: ['user:a', 'feature:g'] embedding_dim: 4 hash_bucket_size: 9") +
      "feature_configs { id_feature { feature_name: 'g' expression: 'const:1' embedding_dim: 4 stub_type: true } }\n"
      "feature_configs { sequence_lookup_feature { feature_name: 'h' map: 'user:m' key: 'item:k' value_dim: 3 } }\n"
      "feature_configs { lookup_feature { feature_name: 'i' map: 'user:m' key: 'item:k' boundaries: 1 value_dim: 0 "
      "combiner: '' embedding_dim: 4 } }\n"
      "feature_configs { match_feature { feature_name: 'j' nested_map: 'user:m' pkey: 'ALL' skey: 'item:s' } }\n"
      "feature_configs { combine_feature { feature_name: 'k' expression: 'user:a' combiner: 'Avg' } }\n"
      "feature_configs { sequence_feature { sequence_name: 's' sequence_length: 3 features { bool_mask_feature { "
      "feature_name: 'f' expression: ['user:a', 'user:b'] sequence_fields: ['a', 'b'] embedding_dim: 4 num_buckets: 9 "
      "} "
      "} } }\n";
  EXPECT_EQ(FeatureFaults(features), "");
  // Where values are encoded already nobody asks for inputs.
  EXPECT_EQ(FeatureFaults(One("combo_feature", "embedding_dim: 4 hash_bucket_size: 9"), "fg_mode: FG_NONE"), "");
}

TEST(FeatureRules, FaultsNameFieldAndPlace) {
  const std::string hashed = "embedding_dim: 4\n hash_bucket_size: 9 ";
  const std::string lookup = "map: 'user:m' key: 'item:k'\n ",
                    match = "nested_map: 'user:m' pkey: 'item:p' skey: 'item:s'\n ";
  const struct {
    std::string kind, fields, expected;
  } kCases[] = {
      {"combo_feature", hashed + "expression: 'user:a'",
       "p:2:19: feature_configs[0].combo_feature: expression has to name two inputs or more"},
      {"combo_feature", hashed + "\n expression: ['user:a', 'b']",
       "p:4:2: feature_configs[0].combo_feature.expression[1]: 'b' is not <side>:<name> with a side of user, item, "
       "context, feature, const"},
      {"combo_feature", "expression: ['user:a', 'user:b'] embedding_dim: 4",
       "p:2:19: feature_configs[0].combo_feature: one of hash_bucket_size, vocab_list, vocab_dict, vocab_file is "
       "needed"},
      {"combo_feature", hashed + "\n expression: ['user:a', 'feature:g']",
       "p:4:2: feature_configs[0].combo_feature.expression[1]: there is no feature 'g'"},
      {"combo_feature", hashed + "expression: ['user:a', 'feature:f']",
       "p:2:19: feature_configs[0].combo_feature: feature 'f' is made of itself: f -> f"},
      {"combo_feature", "embedding_dim: 4 expression: ['user:a', 'user:b']\n zch { zch_size: 9 eviction_interval: 5 }",
       ".zch: not supported yet"},
      {"sequence_combo_feature", hashed + "expression: ['user:a', 'user:b']",
       "p:2:19: feature_configs[0].sequence_combo_feature: at least one of the sequence's inputs must be a sequence: "
       "name "
       "those that are in sequence_fields"},
      {"sequence_combo_feature", hashed + "expression: ['user:a', 'user:b']\n sequence_fields: ['a', 'c']",
       "p:4:2: feature_configs[0].sequence_combo_feature.sequence_fields[1]: 'c' is not the input of a sequence"},
      {"sequence_combo_feature", hashed + "expression: ['user:a', 'item:b']\n value_dim: 0",
       "p:4:2: feature_configs[0].sequence_combo_feature.value_dim: feature 'f': a sequence whose elements have other"},
      {"combine_feature", "expression: 'user:a'\n combiner: 'summ'",
       "p:3:2: feature_configs[0].combine_feature.combiner: 'summ' is not one of sum, mean, avg, min, max, count (did "
       "you "
       "mean 'sum'?)"},
      {"combine_feature", "expression: 'user:a'\n combiner: 'gap_min'",
       "p:3:2: feature_configs[0].combine_feature.combiner: 'gap_min': not supported yet"},
      {"combine_feature", "expression: 'user:a' num_buckets: 3 boundaries: 1 embedding_dim: 4",
       "p:2:19: feature_configs[0].combine_feature: only one of num_buckets and boundaries may be set"},
      {"combine_feature", "expression: 'user:a'\n mlp { }",
       "p:3:2: feature_configs[0].combine_feature.mlp: not supported yet"},
      {"lookup_feature", lookup + "need_discrete: true",
       "p:3:2: feature_configs[0].lookup_feature.need_discrete: needs one of hash_bucket_size, num_buckets, "
       "vocab_list"},
      {"lookup_feature", lookup + "need_key: true", "p:3:2: feature_configs[0].lookup_feature.need_key: needs one of"},
      {"lookup_feature", lookup + "boundaries: 1 num_buckets: 4 embedding_dim: 4",
       "p:3:2: feature_configs[0].lookup_feature.boundaries[0]: are for numbers, and another field of the feature "
       "makes "
       "ids"},
      {"match_feature", match + "show_pkey: true", "p:3:2: feature_configs[0].match_feature.show_pkey: needs one of"},
      {"match_feature", match + "show_skey: true", "p:3:2: feature_configs[0].match_feature.show_skey: needs one of"},
      {"bool_mask_feature", hashed + "expression: ['user:a', 'user:b', 'user:c']",
       "p:2:19: feature_configs[0].bool_mask_feature: expression has to name two inputs, the values and their mask"},
      {"sequence_bool_mask_feature", hashed + "expression: ['item:a', 'user:b']",
       "p:2:19: feature_configs[0].sequence_bool_mask_feature: both of the sequence's inputs must be a sequence"},
      {"raw_feature", "expression: 'user:a'\n separator: ''",
       "p:3:2: feature_configs[0].raw_feature.separator: must not be empty"},
      {"raw_feature", "expression: 'user:a'\n default_value: 'abc'",
       "p:3:2: feature_configs[0].raw_feature.default_value: 'abc' is not a number"},
      {"raw_feature", "expression: 'user:a' value_dim: 3\n default_value: '1\\0352'",
       "p:3:2: feature_configs[0].raw_feature.default_value: has 2 values where value_dim is 3"},
      {"raw_feature", "\n expression: 'const:abc'",
       "p:3:2: feature_configs[0].raw_feature.expression: 'abc' is not a number"},
      {"raw_feature", "expression: 'user:a'\n value_dim: 4294967295",
       "p:3:2: feature_configs[0].raw_feature.value_dim: must be at most 1048576"},
      {"combine_feature", "expression: 'user:a' num_buckets: 9 embedding_dim: 4\n default_value: '2.5'",
       "p:3:2: feature_configs[0].combine_feature.default_value: '2.5' is not an integer"},
      {"combine_feature", "expression: 'user:a' boundaries: 1 embedding_dim: 4\n default_value: 'x'",
       "p:3:2: feature_configs[0].combine_feature.default_value: 'x' is not a number"},
      {"id_feature", "expression: 'user:a' hash_bucket_size: 9 embedding_dim: 4\n fg_value_type: 'double'",
       "p:3:2: feature_configs[0].id_feature.fg_value_type: 'double' with hash_bucket_size: not supported yet"},
      {"id_feature", "expression: 'user:a' embedding_dim: 4\n hash_bucket_size: 4611686018427387904",
       "p:3:2: feature_configs[0].id_feature.hash_bucket_size: must be at most 1000000000000"},
      {"id_feature", "expression: 'user:a' num_buckets: 4\n embedding_dim: 4294967295",
       "p:3:2: feature_configs[0].id_feature.embedding_dim: must be at most 1048576"},
      {"id_feature", "expression: 'user:a' embedding_dim: 4 vocab_dict { key: 'a' value: 9223372036854775807 }",
       "feature_configs[0].id_feature.vocab_dict: must be at most 1000000000000"},
      {"lookup_feature", lookup + "num_buckets: 4 embedding_dim: 4\n normalizer: 'method=log10'",
       "p:4:2: feature_configs[0].lookup_feature.normalizer: is for numbers, and the feature makes ids"},
      {"match_feature", match + "hash_bucket_size: 4 embedding_dim: 4\n normalizer: 'method=log10'",
       "p:4:2: feature_configs[0].match_feature.normalizer: is for numbers, and the feature makes ids"},
      {"custom_feature", "operator_name: 'o' operator_lib_file: 'l'",
       "p:2:19: feature_configs[0].custom_feature: not supported yet"},
  };
  for (const auto& one : kCases) {
    const std::string faults = FeatureFaults(One(one.kind, one.fields));
    EXPECT_THAT(faults, testing::HasSubstr(one.expected)) << one.fields;
    EXPECT_EQ(faults.find('\n'), faults.size() - 1) << "one fault and no other\n" << faults;
  }
}

TEST(FeatureRules, EachFeatureOfACircleIsNamed) {
  const auto combo = [](const std::string& name, const std::string& other) {
    return "feature_configs { combo_feature { feature_name: '" + name + "' expression: ['user:x', 'feature:" + other +
           "'] embedding_dim: 4 hash_bucket_size: 9 } }\n";
  };
  EXPECT_EQ(FeatureFaults(combo("a", "b") + combo("b", "c") + combo("c", "b")),
            "p:3:19: feature_configs[1].combo_feature: feature 'b' is made of itself: b -> c -> b\n"
            "p:4:19: feature_configs[2].combo_feature: feature 'c' is made of itself: c -> b -> c\n");
  // Without the graph a name is a column's.
  EXPECT_EQ(FeatureFaults(combo("a", "a"), "fg_mode: FG_NORMAL"), "");
}

TEST(FeatureRules, SampledItemsHaveNoFeaturesOfRows) {
  const std::string data =
      "fg_mode: FG_DAG negative_sampler { input_path: 'items' num_sample: 2 attr_fields: ['i', 'j'] item_id_field: 'i' "
      "}";
  const std::string id =
      "feature_configs { id_feature { feature_name: 'g' expression: 'item:i' embedding_dim: 4 "
      "num_buckets: 9 } }\n";
  const auto combo = [](const std::string& inputs) {
    return One("combo_feature", "expression: [" + inputs + "] embedding_dim: 4 hash_bucket_size: 9");
  };
  const std::string fault =
      "p:2:19: feature_configs[0].combo_feature: feature 'f' is made of column 'i' in "
      "data_config.negative_sampler.attr_fields and of column 'u', which is not: not supported yet with a "
      "sampler\n";
  EXPECT_EQ(FeatureFaults(combo("'user:u', 'item:i'"), data), fault);
  EXPECT_EQ(FeatureFaults(combo("'user:u', 'feature:g'") + id, data), fault);
  EXPECT_EQ(FeatureFaults(combo("'item:i', 'item:j'"), data), "");
  EXPECT_EQ(FeatureFaults(combo("'user:u', 'user:v'"), data), "");
  EXPECT_THAT(
      FeatureFaults(combo("'user:u', 'item:i'"),
                    "fg_mode: FG_DAG tdm_sampler { item_input_path: 'n' attr_fields: ['i'] item_id_field: 'i' }"),
      testing::HasSubstr("is made of column 'i' in data_config.tdm_sampler.attr_fields and of column 'u'"));
}

TEST(FeatureRules, StubsOfFeaturesAlone) {
  EXPECT_EQ(FeatureFaults(One("combo_feature",
                              "expression: ['user:a', 'user:b'] embedding_dim: 4 hash_bucket_size: 9\n "
                              "stub_type: true"),
                          "fg_mode: FG_NORMAL"),
            "p:3:2: feature_configs[0].combo_feature.stub_type: is not allowed in FG_NORMAL\n");
}

}  // namespace
}  // namespace anneal::config
