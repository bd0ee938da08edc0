#include "worker/features/fg_json.h"

#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"

namespace anneal::features {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The whole text: keys, their order, indent and the digits of boundaries.
TEST(FgJson, IsTheReferencesFileToTheByte) {
  for (const char* name : {"deepfm", "mmoe", "dcn_v2", "multi_tower_din"}) {
    const std::string folder = SharedPath(std::string("golden/zoo/") + name);
    const nlohmann::ordered_json ours = FgJson(ParseConfigFile(folder + "/pipeline.config"));
    EXPECT_EQ(ours.dump(4), ReadText(folder + "/export/default/fg.json")) << name;
  }
}

nlohmann::ordered_json Entry(const std::string& feature, const FgJsonOptions& options = {}) {
  return FgJson(ParseConfig("feature_configs { " + feature + " }"), options)["features"][0];
}

// parity/features.md 8.
TEST(FgJson, KeysOfAnIdFeature) {
  const struct {
    const char *fields, *expected;
  } kCases[] = {
      {"hash_bucket_size: 10 separator: '|' default_value: 'd' value_dim: 1 fg_value_type: 'int64' stub_type: true",
       R"({"feature_type":"id_feature","feature_name":"f","default_value":"d","expression":"user:f",)"
       R"("value_type":"int64","need_prefix":false,"separator":"|","hash_bucket_size":10,"value_dim":1,)"
       R"("stub_type":true})"},
      {"vocab_list: ['a', 'b']",
       R"({"feature_type":"id_feature","feature_name":"f","default_value":"","expression":"user:f",)"
       R"("value_type":"string","need_prefix":false,"vocab_list":["","<OOV>","a","b"],)"
       R"("default_bucketize_value":1,"value_dim":0})"},
      {"vocab_dict { key: 'b' value: 3 } vocab_dict { key: 'a' value: 2 } default_value: 'z'",
       R"({"feature_type":"id_feature","feature_name":"f","default_value":"z","expression":"user:f",)"
       R"("value_type":"string","need_prefix":false,"vocab_dict":{"a":2,"b":3,"z":0},)"
       R"("default_bucketize_value":1,"value_dim":0})"},
      {"zch { zch_size: 5 }",
       R"({"feature_type":"id_feature","feature_name":"f","default_value":"","expression":"user:f",)"
       R"("value_type":"string","need_prefix":false,"hash_bucket_size":9223372036854775807,"value_dim":0})"},
  };
  for (const auto& one : kCases) {
    EXPECT_EQ(Entry(std::string("id_feature { feature_name: 'f' expression: 'user:f' ") + one.fields + " }").dump(),
              one.expected);
  }
}

TEST(FgJson, AssetsBucketizerAndReserves) {
  const std::string feature =
      "id_feature { feature_name: 'f' expression: 'user:f' vocab_file: 'v.txt' asset_dir: 'dir' "
      "default_bucketize_value: 4 }";
  EXPECT_EQ(Entry(feature)["vocab_file"], "dir/v.txt");
  FgJsonOptions options;
  options.assets["dir/v.txt"] = "v_0123.txt";
  EXPECT_EQ(Entry(feature, options)["vocab_file"], "v_0123.txt");
  EXPECT_EQ(Entry(feature, options)["default_bucketize_value"], 4);
  options.remove_bucketizer = true;
  EXPECT_FALSE(Entry(feature, options).contains("vocab_file"));
  options.reserves = {"request_id"};
  EXPECT_EQ(FgJson({}, options).dump(), R"({"features":[],"reserves":["request_id"]})");
}

TEST(FgJson, Sequences) {
  const struct {
    const char *feature, *expected;
  } kCases[] = {
      {"sequence_id_feature { feature_name: 'f' expression: 'user:f' hash_bucket_size: 10 sequence_length: 5 }",
       R"({"feature_type":"sequence_id_feature","feature_name":"f","default_value":"0","expression":"user:f",)"
       R"("value_type":"string","need_prefix":false,"hash_bucket_size":10,"value_dim":1,"sequence_delim":";",)"
       R"("sequence_length":5})"},
      {"sequence_raw_feature { feature_name: 'f' expression: 'user:f' default_value: '3' value_dim: 2 boundaries: 0.5 "
       "sequence_length: 5 sequence_delim: '|' }",
       R"({"feature_type":"sequence_raw_feature","feature_name":"f","default_value":"3","expression":"user:f",)"
       R"("value_type":"float","value_dim":2,"boundaries":[0.5],"sequence_delim":"|","sequence_length":5})"},
      {"sequence_feature { sequence_name: 's' sequence_length: 9 sequence_delim: '|' sequence_pk: 'user:pk' "
       "features { id_feature { feature_name: 'f' expression: 'item:f' vocab_list: ['a'] value_dim: 1 "
       "sequence_fields: 'f' } } "
       "features { raw_feature { feature_name: 'g' expression: 'item:g' default_value: '' } } }",
       R"({"sequence_name":"s","sequence_length":9,"sequence_delim":"|","sequence_pk":"user:pk","features":[)"
       R"({"feature_type":"id_feature","feature_name":"f","default_value":"0","expression":"item:f",)"
       R"("value_type":"string","need_prefix":false,"vocab_list":["0","<OOV>","a"],"default_bucketize_value":1,)"
       R"("value_dim":1,"sequence_fields":["f"]},)"
       R"({"feature_type":"raw_feature","feature_name":"g","default_value":"0","expression":"item:g",)"
       R"("value_type":"float"}]})"},
  };
  for (const auto& one : kCases) EXPECT_EQ(Entry(one.feature).dump(), one.expected);
  FgJsonOptions options;
  options.remove_bucketizer = true;
  EXPECT_FALSE(Entry(kCases[0].feature, options).contains("hash_bucket_size"));
  EXPECT_FALSE(Entry(kCases[2].feature, options)["features"][0].contains("vocab_list"));
  EXPECT_THAT(MessageOf([] {
                Entry("sequence_feature { sequence_name: 's' features { tokenize_feature { feature_name: 'f' } } }");
              }),
              testing::HasSubstr("tokenize_feature is not supported yet (supported: id_feature, raw_feature, "));
}

TEST(FgJson, RefusesUnknownKinds) {
  EXPECT_THAT(MessageOf([] { Entry("tokenize_feature { feature_name: 'f' }"); }),
              testing::HasSubstr("tokenize_feature is not supported yet"));
}

}  // namespace
}  // namespace anneal::features
