// What `anneal check` says of sequence features: the field, the line and the column.
#include <gtest/gtest.h>

#include "worker/config/pipeline.h"

namespace anneal::config {
namespace {

/// The faults under feature_configs, one a line. The features begin in line 2 and stand alone in their lines.
std::string FeatureFaults(const std::string& features, const std::string& mode = "FG_NONE") {
  const std::string text = "data_config { fg_mode: " + mode + " }\n" + features;
  const LoadedConfig loaded = ParsePipelineConfig(text, "p");
  std::string all;
  for (const Fault& fault : Validate(loaded)) {
    if (fault.path.starts_with("feature_configs")) all += FaultLine("p", fault) + "\n";
  }
  return all;
}

std::string Group(const std::string& feature) {
  return "feature_configs { sequence_feature { sequence_name: 's' sequence_length: 9\n features { " + feature +
         " } } }";
}

constexpr const char* kId = "id_feature { feature_name: 'f' expression: 'item:x' embedding_dim: 4 num_buckets: 3\n";

TEST(SequenceFaults, GoodOnes) {
  const std::string features = Group(std::string(kId) + "}") +
                               "feature_configs { id_feature { feature_name: 'f' expression: 'item:x' embedding_dim: 4 "
                               "num_buckets: 3 } }"
                               "feature_configs { sequence_id_feature { feature_name: 'g' expression: 'item:x' "
                               "embedding_dim: 4 num_buckets: 3 value_dim: 1 sequence_fields: 'x' } }"
                               "feature_configs { sequence_raw_feature { feature_name: 'h' expression: 'item:x' "
                               "value_dim: 4 } }";
  for (const char* mode : {"FG_NONE", "FG_DAG"}) EXPECT_EQ(FeatureFaults(features, mode), "");
}

TEST(SequenceFaults, NameFieldAndPlace) {
  const std::string id = kId, path = "feature_configs[0].sequence_feature";
  const std::string member = path + ".features[0].id_feature";
  const struct {
    std::string features, expected;
  } kCases[] = {
      {"feature_configs { sequence_feature { features { " + id + "} } } }",
       "p:2:19: " + path + ": sequence_name is missing"},
      {"feature_configs {\n sequence_feature { sequence_name: 's' } }",
       "p:3:2: " + path + ": sequence 's' has no features"},
      {"feature_configs { sequence_feature { sequence_name: 's'\n  sequence_delim: ''\n features { " + id + "} } } }",
       "p:3:3: " + path + ".sequence_delim: must not be empty"},
      {"feature_configs { sequence_id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3\n sequence_delim: '' "
       "} }",
       "p:3:2: feature_configs[0].sequence_id_feature.sequence_delim: must not be empty"},
      {Group(id + " value_dim: 2 }"),
       "p:4:2: " + member +
           ".value_dim: feature 's__f': a sequence whose elements have other than 1 id: not supported yet"},
      {Group(id + " value_dim: 0 }"), "p:4:2: " + member + ".value_dim: feature 's__f'"},
      {Group(id + " weighted: true }"),
       "p:4:2: " + member + ".weighted: feature 's__f' is a sequence: not supported yet"},
      {"feature_configs { sequence_" + id + " value_dim: 2 }\n}",
       "p:3:2: feature_configs[0].sequence_id_feature.value_dim: feature 'f': a sequence whose elements"},
      {"feature_configs { sequence_raw_feature { feature_name: 'f' boundaries: 1 embedding_dim: 4\n value_dim: 2 } }",
       "p:3:2: feature_configs[0].sequence_raw_feature.value_dim: feature 'f': a sequence whose elements"},
      {Group("raw_feature { feature_name: 'f'\n value_dim: 0 }"),
       "p:4:2: " + path + ".features[0].raw_feature.value_dim: must be at least 1"},
      {Group("id_feature { feature_name: 'f' num_buckets: 3 }"),
       "p:3:13: " + member + ": feature 's__f': embedding_dim must be more than 0"},
      {Group("id_feature { embedding_dim: 4 num_buckets: 3 }"), "p:3:13: " + member + ": feature_name is missing"},
      {Group("id_feature { feature_name: 'f' embedding_dim: 4 }"), "p:3:13: " + member + ": one of hash_bucket_size"},
      {Group(""), "p:3:2: " + path + ".features[0]: names no feature"},
      {Group("tokenize_feature { feature_name: 'f' embedding_dim: 4 vocab_file: 'v' expression: 'user:x' }"),
       "p:3:13: " + path + ".features[0].tokenize_feature: not supported yet"},
      {"feature_configs { sequence_custom_feature { feature_name: 'f' operator_name: 'o' operator_lib_file: 'l' } }",
       "p:2:19: feature_configs[0].sequence_custom_feature: not supported yet"},
      {Group(id + " sequence_fields: ['x', 'y'] }"),
       "p:4:2: " + member + ".sequence_fields[1]: 'y' is not the input of a sequence: not supported yet"},
      {"feature_configs { " + id + " sequence_fields: 'x' } }",
       "p:3:2: feature_configs[0].id_feature.sequence_fields[0]: 'x' is not the input of a sequence"},
      {Group(id + " use_mask: true }"), "p:4:2: " + member + ".use_mask: not supported yet"},
      // Names: of two sequences, and of a sequence's feature beside a plain one.
      {Group(id + "}") + "\n" + Group("raw_feature { feature_name: 'g' }"),
       "p:5:38: feature_configs[1].sequence_feature.sequence_name: the name 's' is used twice"},
      {Group(id + "}") + "\nfeature_configs { raw_feature { feature_name: 's__f' } }",
       "p:5:33: feature_configs[1].raw_feature.feature_name: the name 's__f' is used twice"},
  };
  for (const auto& one : kCases) {
    const std::string faults = FeatureFaults(one.features);
    EXPECT_NE(faults.find(one.expected), std::string::npos) << one.expected << "\n" << faults;
    EXPECT_EQ(faults.find('\n'), faults.size() - 1) << "one fault and no other\n" << faults;
  }
}

TEST(SequenceFaults, ExpressionsOfFeatureGeneration) {
  const std::string literal =
      Group("id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3\n expression: 'const:1' }");
  const std::string at = "feature_configs[0].sequence_feature.features[0].id_feature.expression: ";
  EXPECT_EQ(FeatureFaults(literal), "");
  EXPECT_EQ(FeatureFaults(literal, "FG_DAG"),
            "p:4:2: " + at + "'const:1' is a literal as a sequence: not supported yet\n");
  EXPECT_NE(FeatureFaults(Group("id_feature { feature_name: 'f' embedding_dim: 4 num_buckets: 3 }"), "FG_DAG")
                .find("p:3:13: " + at + "'' is not <side>:<name>"),
            std::string::npos);
}

}  // namespace
}  // namespace anneal::config
