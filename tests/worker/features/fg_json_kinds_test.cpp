// fg.json's entries of features with several inputs (parity/features.md 4.10, 8).
#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"
#include "worker/features/fg_json.h"

namespace anneal::features {
namespace {

std::string Entries(const std::string& feature, const FgJsonOptions& options = {}) {
  return FgJson(ParseConfig("feature_configs { " + feature + " }"), options)["features"].dump();
}

TEST(FgJsonKinds, KeysOfEachKind) {
  const struct {
    const char *feature, *expected;
  } kCases[] = {
      {"combo_feature { feature_name: 'f' expression: ['user:a', 'item:b'] hash_bucket_size: 10 embedding_dim: 4 }",
       R"([{"feature_type":"combo_feature","feature_name":"f","default_value":"","expression":["user:a","item:b"],)"
       R"("value_type":"string","need_prefix":false,"hash_bucket_size":10,"value_dim":0}])"},
      {"combo_feature { feature_name: 'f' expression: ['feature:a', 'const:b'] separator: '|' value_dim: 2 "
       "vocab_list: 'x' default_value: 'd' stub_type: true }",
       R"([{"feature_type":"combo_feature","feature_name":"f","default_value":"d","expression":["feature:a","const:b"],)"
       R"("value_type":"string","need_prefix":false,"separator":"|","vocab_list":["d","<OOV>","x"],)"
       R"("default_bucketize_value":1,"value_dim":2,"stub_type":true}])"},
      {"combine_feature { feature_name: 'f' expression: 'user:a' combiner: 'MEAN' normalizer: 'method=log10' "
       "value_map { key: 'b' value: 0.5 } value_map { key: 'a' value: 2 } }",
       R"([{"feature_type":"combine_feature","feature_name":"f","default_value":"","expression":"user:a",)"
       R"("value_type":"float","need_prefix":false,"combiner":"mean","normalizer":"method=log10",)"
       R"("value_map":{"a":2.0,"b":0.5}}])"},
      {"combine_feature { feature_name: 'f' expression: 'user:a' num_buckets: 7 embedding_dim: 4 separator: ',' }",
       R"([{"feature_type":"combine_feature","feature_name":"f","default_value":"","expression":"user:a",)"
       R"("value_type":"int64","need_prefix":false,"combiner":"sum","separator":",","num_buckets":7,"value_dim":1}])"},
      {"combine_feature { feature_name: 'f' expression: 'user:a' boundaries: [0.5, 1] embedding_dim: 4 }",
       R"([{"feature_type":"combine_feature","feature_name":"f","default_value":"","expression":"user:a",)"
       R"("value_type":"float","need_prefix":false,"combiner":"sum","boundaries":[0.5,1.0],"value_dim":1}])"},
      {"lookup_feature { feature_name: 'f' map: 'user:m' key: 'item:k' combiner: 'Max' normalizer: 'method=log10' }",
       R"([{"feature_type":"lookup_feature","feature_name":"f","map":"user:m","key":"item:k","default_value":"0",)"
       R"("value_type":"float","needDiscrete":false,"needKey":false,"combiner":"max","normalizer":"method=log10"}])"},
      {"lookup_feature { feature_name: 'f' map: 'user:m' key: 'item:k' hash_bucket_size: 9 need_key: true value_dim: 0 "
       "}",
       R"([{"feature_type":"lookup_feature","feature_name":"f","map":"user:m","key":"item:k","default_value":"0",)"
       R"("value_type":"string","needDiscrete":true,"needKey":true,"combiner":"","hash_bucket_size":9,"value_dim":0}])"},
      {"lookup_feature { feature_name: 'f' map: 'user:m' key: 'item:k' combiner: '' boundaries: 1 }",
       R"([{"feature_type":"lookup_feature","feature_name":"f","map":"user:m","key":"item:k","default_value":"0",)"
       R"("value_type":"float","needDiscrete":false,"needKey":false,"combiner":"","boundaries":[1.0],"value_dim":1}])"},
      // Vectors: a hidden lookup of their text, and a raw_feature that reads it.
      {"lookup_feature { feature_name: 'f' map: 'user:m' key: 'item:k' value_dim: 2 default_value: '0.5' separator: "
       "'|' "
       "normalizer: 'method=log10' }",
       R"([{"feature_type":"lookup_feature","feature_name":"f__lookup","map":"user:m","key":"item:k",)"
       R"("default_value":"0.5,0.5","value_type":"string","needDiscrete":true,"needKey":false,"combiner":"",)"
       R"("separator":"|","value_dim":1,"stub_type":true},)"
       R"({"feature_type":"raw_feature","feature_name":"f","default_value":"0.5","expression":"feature:f__lookup",)"
       R"("value_type":"float","separator":",","value_dim":2,"normalizer":"method=log10"}])"},
      {"match_feature { feature_name: 'f' nested_map: 'user:m' pkey: 'item:p' skey: 'item:s' boundaries: 2 }",
       R"([{"feature_type":"match_feature","feature_name":"f","user":"user:m","category":"item:p","item":"item:s",)"
       R"("matchType":"hit","default_value":"0","value_type":"float","needDiscrete":false,"show_category":false,)"
       R"("show_item":false,"boundaries":[2.0]}])"},
      {"match_feature { feature_name: 'f' nested_map: 'user:m' pkey: 'ALL' skey: 'item:s' num_buckets: 9 show_skey: "
       "true "
       "fg_value_type: 'int64' }",
       R"([{"feature_type":"match_feature","feature_name":"f","user":"user:m","category":"ALL","item":"item:s",)"
       R"("matchType":"multihit","default_value":"0","value_type":"int64","needDiscrete":true,"show_category":false,)"
       R"("show_item":true,"num_buckets":9,"value_dim":1}])"},
      {"bool_mask_feature { feature_name: 'f' expression: ['user:a', 'user:b'] num_buckets: 9 fg_value_type: 'int64' }",
       R"([{"feature_type":"bool_mask_feature","feature_name":"f","expression":["user:a","user:b"],"default_value":"",)"
       R"("num_buckets":9,"value_dim":0,"value_type":"int64"}])"},
      // Sequences: an empty default is "0"; masks keep their type.
      {"sequence_combo_feature { feature_name: 'f' expression: ['user:a', 'item:b'] hash_bucket_size: 10 "
       "sequence_length: 5 }",
       R"([{"feature_type":"sequence_combo_feature","feature_name":"f","default_value":"0",)"
       R"("expression":["user:a","item:b"],"value_type":"string","need_prefix":false,"hash_bucket_size":10,)"
       R"("value_dim":0,"sequence_delim":";","sequence_length":5}])"},
      {"sequence_bool_mask_feature { feature_name: 'f' expression: ['user:a', 'user:b'] num_buckets: 9 "
       "sequence_length: 5 sequence_delim: '|' }",
       R"([{"feature_type":"bool_mask_feature","feature_name":"f","expression":["user:a","user:b"],"default_value":"0",)"
       R"("num_buckets":9,"value_dim":0,"sequence_delim":"|","sequence_length":5}])"},
      {"sequence_feature { sequence_name: 's' sequence_length: 5 features { lookup_feature { feature_name: 'f' "
       "map: 'user:m' key: 'item:k' sequence_fields: 'k' } } }",
       R"([{"sequence_name":"s","sequence_length":5,"sequence_delim":";","sequence_pk":"user:s","features":[)"
       R"({"feature_type":"lookup_feature","feature_name":"f","map":"user:m","key":"item:k","default_value":"0",)"
       R"("value_type":"float","needDiscrete":false,"needKey":false,"combiner":"sum","sequence_fields":["k"]}]}])"},
  };
  for (const auto& one : kCases) EXPECT_EQ(Entries(one.feature), one.expected);
}

TEST(FgJsonKinds, AssetsAndBucketizer) {
  const std::string feature =
      "lookup_feature { feature_name: 'f' map: 'user:m' key: 'item:k' vocab_file: 'v.txt' asset_dir: 'd' "
      "default_bucketize_value: 4 }";
  FgJsonOptions options;
  options.assets["d/v.txt"] = "v_0123.txt";
  EXPECT_THAT(Entries(feature, options),
              testing::HasSubstr(R"("vocab_file":"v_0123.txt","default_bucketize_value":4)"));
  options.remove_bucketizer = true;
  EXPECT_THAT(Entries(feature, options), testing::Not(testing::HasSubstr("vocab_file")));
}

}  // namespace
}  // namespace anneal::features
