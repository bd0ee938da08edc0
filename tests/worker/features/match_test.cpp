// match_feature (parity/features.md 4.11): golden values of the reference, and its rules.
#include "tests/worker/features/derived_case.h"
#include "worker/features/string_hash.h"

namespace anneal::features {
namespace {

using arrow::int64;
using arrow::list;
using arrow::map;
using arrow::utf8;

const std::string kInputs = "nested_map: 'user:m' pkey: 'item:p' skey: 'item:s' ";
const char* kMap = "ca^ba:1,bb:2|cb^ba:3,bb:4";

std::vector<Column> Columns(const std::string& nested, const std::string& outer, const std::string& inner) {
  return {{"m", utf8(), "[\"" + nested + "\"]"},
          {"p", utf8(), "[\"" + outer + "\"]"},
          {"s", utf8(), "[\"" + inner + "\"]"}};
}

int64_t Hash(const std::string& text) { return static_cast<int64_t>(MurmurHash64A(text) % 100); }

TEST(Match, Numbers) {
  const std::string any_outer = "nested_map: 'user:m' pkey: 'ALL' skey: 'item:s' ";
  const std::string any_inner = "nested_map: 'user:m' pkey: 'item:p' skey: 'ALL' ";
  ExpectNumbers("match_feature",
                {
                    {kInputs, Columns(kMap, "ca", "ba"), {1}},
                    {kInputs, Columns(kMap, "cb", "bb"), {4}},
                    {kInputs, Columns(kMap, "cx", "ba"), {0}},
                    {kInputs + "default_value: '-1'", Columns(kMap, "ca", "bx"), {-1}},
                    {kInputs + "default_value: '-1'", Columns("", "ca", "ba"), {-1}},
                    {kInputs + "default_value: '-1'", Columns(kMap, "", "ba"), {-1}},
                    {kInputs + "normalizer: 'method=minmax,min=0,max=8'", Columns(kMap, "cb", "bb"), {0.5}},
                    {kInputs,
                     {{"m", map(int64(), utf8()), R"([[[7, "1:5,2:6"]], null, [[7, ""]]])"},
                      {"p", int64(), "[7, 7, 7]"},
                      {"s", int64(), "[2, 2, 2]"}},
                     {6, 0, 0}},
                    // One number: of several hits the first.
                    {any_outer, Columns(kMap, "", "bb"), {2}},
                    {any_inner, Columns(kMap, "cb", ""), {3}},
                });
}

TEST(Match, Ids) {
  EXPECT_EQ(Hash("match_feat_1"), 71);  // the reference's only vector: feature match_feat, value 1
  const std::string hashed = "hash_bucket_size: 100 ";
  const std::string all = "nested_map: 'user:m' pkey: 'ALL' skey: 'ALL' value_dim: 0 ";
  ExpectIds(
      "match_feature",
      {
          {kInputs + hashed, Columns(kMap, "ca", "ba"), {Hash("f_1")}, {1}},
          {kInputs + hashed + "default_value: 'z'", Columns(kMap, "ca", "bx"), {54}, {1}},
          {kInputs + hashed + "default_value: ''", Columns(kMap, "ca", "bx"), {}, {0}},
          {kInputs + hashed + "show_pkey: true show_skey: true", Columns(kMap, "cb", "ba"), {Hash("f_cb_ba_3")}, {1}},
          {kInputs + hashed + "show_skey: true", Columns(kMap, "cb", "ba"), {Hash("f_ba_3")}, {1}},
          // Of equal keys the first counts.
          {kInputs + "num_buckets: 9 value_dim: 0", Columns("p^s:1,s:2|p^s:3", "p", "s"), {1}, {1}},
          {kInputs + "num_buckets: 9 default_value: ''", Columns("p^t:1|p^s:3", "p", "s"), {}, {0}},
          {all + "num_buckets: 9 default_value: ''", Columns("p^s:1,s:2|p^s:3", "", ""), {1, 2, 3}, {3}},
          // Several keys, several values.
          {kInputs + "num_buckets: 9", Columns(kMap, "ca\\u001dcb", "bb"), {2}, {1}},
          {kInputs + "num_buckets: 9 value_dim: 0", Columns(kMap, "ca\\u001dcb", "bb"), {2, 4}, {2}},
          {all + "num_buckets: 9", Columns(kMap, "", ""), {1, 2, 3, 4}, {4}},
          {"nested_map: 'user:m' pkey: 'ALL' skey: 'item:s' value_dim: 0 num_buckets: 9",
           Columns(kMap, "", "ba"),
           {1, 3},
           {2}},
          {"nested_map: 'user:m' pkey: 'item:p' skey: 'ALL' value_dim: 3 num_buckets: 9",
           Columns(kMap, "cb", ""),
           {3, 4},
           {2}},
          {kInputs + "vocab_list: ['1', '2']", Columns(kMap, "ca", "bb"), {3}, {1}},
          {kInputs + "vocab_list: ['1', '2']", Columns(kMap, "cb", "bb"), {1}, {1}},
          {kInputs + "boundaries: [1, 2, 3]", Columns(kMap, "ca", "bb"), {2}, {1}},
      });
  // A quirk of the reference: a row more than the vocabulary has.
  const auto set = FeatureSet::FromConfig(ParseConfig(OneFeature("match_feature", kInputs + "vocab_list: ['1', '2']")));
  EXPECT_EQ(set.Find("f")->num_embeddings, 5);
}

TEST(Match, InSequences) {
  ExpectIds(
      "sequence_match_feature",
      {{kInputs + "num_buckets: 9 sequence_length: 3", Columns(kMap, "ca;cb;cx;ca", "ba;bb;ba;bb"), {1, 4, 0}, {3}}});
  ExpectBad("sequence_match_feature",
            {{kInputs + "num_buckets: 9", Columns(kMap, "ca;cb", "ba"),
              "row 1, column m: has a sequence of 1 elements in column s, in column p of 2 (feature f)"}});
}

TEST(Match, OwnColumn) {
  EXPECT_THAT(RunOwnColumn("match_feature", kInputs, "FG_NONE", arrow::float32(), "[1.5]").dense,
              testing::ElementsAre(1.5));
}

TEST(Match, WhatIsWrongIsNamed) {
  ExpectBad(
      "match_feature",
      {
          {kInputs, Columns("ca^ba:1|x", "ca", "ba"), "row 1, column m: \"x\" is not key^value (feature f)"},
          {kInputs, Columns("ca^ba:1,bb", "ca", "bb"), "row 1, column m: \"bb\" is not key:value (feature f)"},
          {kInputs, Columns("ca^ba:x", "ca", "ba"), "row 1, column m: \"x\" is not a number (feature f)"},
          {kInputs + "num_buckets: 9", Columns("ca^ba:x", "ca", "ba"), "row 1, column m: \"x\" is not an integer"},
      });
}

}  // namespace
}  // namespace anneal::features
