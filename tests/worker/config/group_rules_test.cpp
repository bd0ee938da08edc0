// What `anneal check` says about feature groups: every fault with the path of its field.
#include "worker/config/group_rules.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <vector>

namespace anneal::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// "path: message" of every fault, without "model_config.feature_groups"; the features are an id, a number, a sequence
/// of ids and a sequence of numbers.
std::vector<std::string> Faults(const std::string& groups) {
  tzrec::protos::ModelConfig model;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(groups, &model)) << groups;
  std::vector<std::string> faults;
  CheckGroups(model,
              {{"id", {true, false}}, {"number", {false, false}}, {"ids", {true, true}}, {"numbers", {false, true}}},
              [&](const std::string& path, const std::string& message) {
                const std::string root = "model_config.feature_groups";
                faults.push_back((path.starts_with(root) ? path.substr(root.size()) : path) + ": " + message);
              });
  return faults;
}

std::string Group(const std::string& type, const std::string& rest) {
  return "feature_groups { group_name: '" + type + "' group_type: " + type + " " + rest + " } ";
}

TEST(GroupRules, GoodOnes) {
  EXPECT_THAT(
      Faults(Group("WIDE", "feature_names: 'id'") + Group("SEQUENCE", "feature_names: ['id', 'ids', 'numbers']") +
             Group("JAGGED_SEQUENCE", "feature_names: ['id', 'ids', 'numbers']") +
             Group("DEEP",
                   "feature_names: ['id', 'number'] "
                   "sequence_groups { group_name: 'a' feature_names: ['id', 'ids'] } "
                   "sequence_groups { group_name: 'b' feature_names: 'numbers' } "
                   "sequence_encoders { din_encoder { input: 'a' attn_mlp { hidden_units: 4 } } } "
                   "sequence_encoders { pooling_encoder { input: 'b' } }")),
      IsEmpty());
  // The only sequence group has its group's name; a group may be made of sequences alone.
  EXPECT_THAT(Faults(Group("DEEP",
                           "sequence_groups { feature_names: 'ids' } "
                           "sequence_encoders { pooling_encoder { input: 'DEEP' } }")),
              IsEmpty());
}

TEST(GroupRules, Features) {
  EXPECT_THAT(Faults(Group("WIDE", "feature_names: ['number', 'ids', 'idd']") + Group("DEEP", "feature_names: 'ids'") +
                     Group("SEQUENCE", "feature_names: ['id', 'number']")),
              ElementsAre("[0].feature_names[0]: the dense feature 'number' cannot be in a WIDE group",
                          "[0].feature_names[1]: the sequence 'ids' cannot be in a WIDE group",
                          "[0].feature_names[2]: there is no feature 'idd' (did you mean 'id'?)",
                          "[1].feature_names[0]: 'ids' is a sequence: sequence_groups and SEQUENCE groups take those",
                          "[2]: sequence group 'SEQUENCE' has no sequence feature"));
  EXPECT_THAT(Faults(Group("DEEP", "") + Group("JAGGED_SEQUENCE", "feature_names: 'id'")),
              ElementsAre("[0]: group 'DEEP' has no feature_names",
                          "[1]: sequence group 'JAGGED_SEQUENCE' has no sequence feature"));
}

TEST(GroupRules, SequencesAndEncodersNeedEachOther) {
  EXPECT_THAT(
      Faults(Group("DEEP",
                   "feature_names: 'id' sequence_groups { group_name: 'a' feature_names: 'ids' } "
                   "sequence_groups { feature_names: 'numbers' } "
                   "sequence_encoders { pooling_encoder { input: 'aa' max_seq_length: -1 } } "
                   "sequence_encoders { } "
                   "sequence_encoders { din_encoder { input: 'a' attn_mlp { } } }")),
      ElementsAre(
          "[0].sequence_groups[1]: each of several sequence_groups needs a group_name",
          "[0].sequence_encoders[0].pooling_encoder.input: this group has no sequence group 'aa' (did you "
          "mean 'a'?)",
          "[0].sequence_encoders[0].pooling_encoder.max_seq_length: must not be negative",
          "[0].sequence_encoders[1]: no encoder is set",
          "[0].sequence_encoders[2].din_encoder.attn_mlp: hidden_units is empty",
          "[0].sequence_encoders[2].din_encoder: sequence group 'a' has no query: a feature that is no sequence",
          "[0].sequence_groups[1]: no sequence encoder reads sequence group ''"));
  EXPECT_THAT(Faults(Group("DEEP", "feature_names: 'id' sequence_encoders { pooling_encoder { input: 'a' } }") +
                     Group("WIDE", "feature_names: 'id' sequence_groups { feature_names: 'ids' }")),
              ElementsAre("[0].sequence_encoders[0].pooling_encoder.input: this group has no sequence group 'a'",
                          "[1].sequence_groups: belong into a DEEP group, this one is WIDE"));
}

TEST(GroupRules, SettingsOfEncoders) {
  EXPECT_THAT(
      Faults(Group("DEEP",
                   "sequence_groups { group_name: 'a' feature_names: 'ids' } "
                   "sequence_encoders { din_encoder { input: 'a' attn_mlp { hidden_units: 4 } } } "
                   "sequence_encoders { multi_window_din_encoder { input: 'a' attn_mlp { hidden_units: 4 } } } "
                   "sequence_encoders { pooling_encoder { input: 'a' pooling_type: 'max' } } "
                   "sequence_encoders { self_attention_encoder { input: 'a' multihead_attn_dim: 10 num_heads: 4 } } "
                   "sequence_encoders { self_attention_encoder { input: 'a' num_heads: 0 dropout: 2 } }")),
      ElementsAre(
          "[0].sequence_encoders[0].din_encoder: sequence group 'a' has no query: a feature that is no sequence",
          "[0].sequence_encoders[1].multi_window_din_encoder: sequence group 'a' has no query: a feature that is no "
          "sequence",
          "[0].sequence_encoders[1].multi_window_din_encoder: windows_len is empty",
          "[0].sequence_encoders[2].pooling_encoder.pooling_type: 'max' is not sum or mean",
          "[0].sequence_encoders[3].self_attention_encoder.multihead_attn_dim: 10 is no multiple of num_heads, 4",
          "[0].sequence_encoders[4].self_attention_encoder.dropout: must be at least 0 and less than 1",
          "[0].sequence_encoders[4].self_attention_encoder.num_heads: must be at least 1"));
}

TEST(GroupRules, NamesAreUsedOnce) {
  EXPECT_THAT(Faults(Group("SEQUENCE", "feature_names: 'ids'") +
                     "feature_groups { group_name: 'SEQUENCE' group_type: DEEP feature_names: 'id' "
                     "sequence_groups { feature_names: 'ids' } "
                     "sequence_encoders { pooling_encoder { input: 'SEQUENCE' } } }"),
              ElementsAre("[1].group_name: the name 'SEQUENCE' is used twice",
                          "[1].sequence_groups[0].group_name: there is another sequence group of the name 'SEQUENCE'"));
}

}  // namespace
}  // namespace anneal::config
