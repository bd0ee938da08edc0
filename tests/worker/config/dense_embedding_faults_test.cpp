// What `anneal check` says of autodis and mlp: the field, the line and the column.
#include <gtest/gtest.h>

#include "worker/config/pipeline.h"

namespace anneal::config {
namespace {

/// The faults of features, which begin in line 2, and of feature groups, one a line.
std::string Faults(const std::string& features, const std::string& groups = "") {
  const LoadedConfig loaded =
      ParsePipelineConfig("data_config {}\n" + features + "\nmodel_config {\n" + groups + "}", "p");
  std::string all;
  for (const Fault& fault : Validate(loaded)) {
    if (fault.path.starts_with("feature_configs") || fault.path.starts_with("model_config.feature_groups"))
      all += FaultLine("p", fault) + "\n";
  }
  return all;
}

std::string Raw(const std::string& fields) {
  return "feature_configs { raw_feature { feature_name: 'f' embedding_dim: 4\n" + fields + " } }";
}

const std::string kClicks =
    "feature_configs { sequence_id_feature { feature_name: 'c' embedding_dim: 4 num_buckets: 3 } }";

TEST(DenseEmbeddingFaults, GoodOnes) {
  EXPECT_EQ(Faults(Raw("autodis { num_channels: 2 }")), "");
  EXPECT_EQ(
      Faults(Raw("mlp {} value_dim: 7"), "feature_groups { group_name: 'g' group_type: DEEP feature_names: 'f' }"), "");
}

TEST(DenseEmbeddingFaults, NameFieldAndPlace) {
  const std::string at = "feature_configs[0].raw_feature.";
  EXPECT_EQ(Faults(Raw("autodis { num_channels: 0\ntemperature: 0\nkeep_prob: nan }")),
            "p:3:11: " + at + "autodis.num_channels: must be at least 1\np:4:1: " + at +
                "autodis.temperature: must be more than 0\np:5:1: " + at + "autodis.keep_prob: is no number\n");
  EXPECT_EQ(Faults(Raw("value_dim: 2\nautodis { num_channels: 1 }")),
            "p:4:1: " + at + "autodis: needs a value_dim of 1, it is 2\n");
  EXPECT_EQ(Faults(Raw("mlp {} boundaries: 1")),
            "p:3:1: " + at + "mlp: and boundaries, which make the feature sparse, exclude each other\n");
  EXPECT_EQ(Faults("feature_configs { raw_feature { feature_name: 'f'\nmlp {} } }"),
            "p:3:1: " + at + "mlp: needs an embedding_dim of more than 0\n");
  EXPECT_EQ(Faults("feature_configs { sequence_raw_feature { feature_name: 'f' embedding_dim: 4\nmlp {} } }"),
            "p:3:1: feature_configs[0].sequence_raw_feature.mlp: a sequence has no dense embedding\n");
}

TEST(DenseEmbeddingFaults, GroupsThatCannotHaveThem) {
  const std::string features = Raw("mlp {}") + kClicks, at = "model_config.feature_groups[0].";
  EXPECT_EQ(Faults(features, "feature_groups { group_name: 'g' group_type: WIDE\nfeature_names: 'f' }"),
            "p:6:1: " + at + "feature_names[0]: the dense feature 'f' cannot be in a WIDE group\n");
  EXPECT_EQ(Faults(features, "feature_groups { group_name: 'g' group_type: SEQUENCE\nfeature_names: ['f', 'c'] }"),
            "p:6:1: " + at + "feature_names[0]: 'f' has autodis or mlp, which sequence groups do not apply\n");
}

}  // namespace
}  // namespace anneal::config
