// lookup_feature (parity/features.md 4.10): golden values of the reference, and its rules.
#include "tests/worker/features/derived_case.h"
#include "worker/features/derived/key_index.h"
#include "worker/features/string_hash.h"

namespace anneal::features {
namespace {

using arrow::float64;
using arrow::int32;
using arrow::int64;
using arrow::list;
using arrow::map;
using arrow::utf8;

const std::string kInputs = "map: 'user:m' key: 'item:k' ";

std::vector<Column> Columns(const char* maps, const char* keys) { return {{"m", utf8(), maps}, {"k", utf8(), keys}}; }

TEST(Lookup, Numbers) {
  const char *maps = R"(["ca:1\u001dcb:2", "ca:1\u001dcb:2", "ca:1", "", null])",
             *keys = R"(["ca\u001dcb", "cx\u001dcb", "", "ca", "ca"])";
  const auto pairs = map(utf8(), float64());
  ExpectNumbers(
      "lookup_feature",
      {
          {kInputs, Columns(maps, keys), {3, 2, 0, 0, 0}},
          {kInputs + "combiner: 'mean' default_value: '-1'", Columns(maps, keys), {1.5, 2, -1, -1, -1}},
          {kInputs + "combiner: 'count'", Columns(maps, keys), {2, 1, 0, 0, 0}},
          {kInputs + "combiner: 'min' separator: ','", Columns(R"(["a:1.5,b:-3"])", R"(["b,a"])"), {-3}},
          // A key twice in a map counts once, the first; one asked for twice counts twice.
          {kInputs + "separator: ','", Columns(R"(["a:1,a:5,b:2"])", R"(["a,a,b"])"), {4}},
          // Only the first colon cuts.
          {kInputs + "separator: ','", Columns(R"(["a:1e3,b:2"])", R"(["a"])"), {1000}},
          {kInputs,
           {{"m", pairs, R"([[["a", 1.5], ["b", 2]], [], null])"},
            {"k", list(utf8()), R"([["a", "b"], ["a"], ["a"]])"}},
           {3.5, 0, 0}},
          {kInputs, {{"m", map(int64(), utf8()), R"([[[7, "1.5"], [-8, "x"]]])"}, {"k", int32(), "[7]"}}, {1.5}},
          {kInputs, {{"m", list(utf8()), R"([["a:1", "b:2"]])"}, {"k", utf8(), R"(["b"])"}}, {2}},
          {kInputs + "normalizer: 'method=log10' default_value: '0.01'",
           Columns(R"(["a:100", "a:100"])", R"(["a", "b"])"),
           {2, 0.01f}},
          // All values; as one number it is the first.
          {kInputs + "combiner: '' separator: ','", Columns(R"(["a:1,b:2", "a:1"])", R"(["b,a", "c"])"), {2, 0}},
      });
}

TEST(Lookup, Vectors) {
  ExpectNumbers("lookup_feature",
                {
                    {kInputs + "value_dim: 2",
                     Columns(R"(["ca:1,2\u001dcb:3,4", "ca:1,2"])", R"(["ca\u001dcb", "cx"])"),
                     {1, 2, 0, 0}},
                    {kInputs + "value_dim: 2 value_separator: '#' separator: ',' default_value: '0.5'",
                     Columns(R"(["a:1#2,b:3#4", ""])", R"(["b", "b"])"),
                     {3, 4, 0.5, 0.5}},
                    {kInputs + "value_dim: 2 normalizer: 'method=minmax,min=0,max=2'",
                     {{"m", map(utf8(), utf8()), R"([[["a", "1,2"]]])"}, {"k", utf8(), R"(["a"])"}},
                     {0.5, 1}},
                });
  ExpectIds("lookup_feature", {{kInputs + "value_dim: 2 boundaries: [0, 2] default_value: '1'",
                                Columns(R"(["a:-1,5", "a:0,0"])", R"(["a", "b"])"),
                                {0, 2, 1, 1},
                                {2, 2}}});
  ExpectBad("lookup_feature", {{kInputs + "value_dim: 2", Columns(R"(["a:1,2", "a:1,2,3"])", R"(["a", "a"])"),
                                "row 2, column m: has 3 values where value_dim is 2 (feature f)"}});
}

TEST(Lookup, Ids) {
  const char *maps = R"(["ca:x\u001dcb:y", "ca:x", "ca:x"])", *keys = R"(["ca\u001dcb", "cb", null])";
  const auto hash = [](const char* text) { return static_cast<int64_t>(MurmurHash64A(text) % 100); };
  ExpectIds(
      "lookup_feature",
      {
          // "x" is 35 and "y" 30 modulo 100, the default "0" 26; one value unless value_dim says otherwise.
          {kInputs + "hash_bucket_size: 100", Columns(maps, keys), {35, 26, 26}, {1, 1, 1}},
          {kInputs + "hash_bucket_size: 100 value_dim: 0 default_value: ''", Columns(maps, keys), {35, 30}, {2, 0, 0}},
          {kInputs + "hash_bucket_size: 100 value_dim: 0 need_key: true default_value: 'z'",
           Columns(maps, keys),
           {hash("ca_x"), hash("cb_y"), 54, 54},
           {2, 1, 1}},
          {kInputs + "vocab_list: ['x', 'y'] value_dim: 0", Columns(maps, keys), {2, 3, 0, 0}, {2, 1, 1}},
          {kInputs + "vocab_dict { key: 'y' value: 2 } value_dim: 0", Columns(maps, keys), {1, 2, 0, 0}, {2, 1, 1}},
          {kInputs + "num_buckets: 10 separator: ','", Columns(R"(["a:3,b:4"])", R"(["b"])"), {4}, {1}},
          {kInputs + "num_buckets: 10",
           {{"m", map(utf8(), int64()), R"([[["a", 3], ["b", 4]]])"}, {"k", utf8(), R"(["b"])"}},
           {4},
           {1}},
          {kInputs + "boundaries: [1.5, 2.5] default_value: '2'",
           Columns(R"(["ca:1\u001dcb:2", "ca:1"])", R"(["ca\u001dcb", "cb"])"),
           {2, 1},
           {1, 1}},
          // Without a combiner each value has its bucket.
          {kInputs + "boundaries: [1.5, 2.5] combiner: '' value_dim: 0",
           Columns(R"(["ca:1\u001dcb:2", "ca:1"])", R"(["ca\u001dcb", "cb"])"),
           {0, 1, 0},
           {2, 1}},
      });
}

TEST(Lookup, InSequences) {
  // The map is the user's; each element of the item's sequence is looked up in it.
  ExpectIds("sequence_lookup_feature", {{kInputs + "hash_bucket_size: 100 separator: ','",
                                         Columns(R"(["a:x,b:y,c:z", "a:x", null])", R"(["b;a,c;;d", "", "a;a"])"),
                                         {30, 35, 26, 26, 26, 26, 26},
                                         {4, 1, 2}}});
  const data::Batch batch =
      RunConfig(OneFeature("sequence_lookup_feature", kInputs + "separator: ',' value_dim: 2 value_separator: '#'"),
                {{"m", utf8(), R"(["a:1#2,b:3#4"])"}, {"k", list(utf8()), R"([["b", "x", "a"]])"}});
  ASSERT_EQ(batch.dense_sequences.size(), 1u);
  EXPECT_THAT(batch.dense_sequences[0].values, testing::ElementsAre(3, 4, 0, 0, 1, 2));
  // A map of each element.
  ExpectIds("sequence_lookup_feature", {{kInputs + "num_buckets: 10 separator: ',' sequence_fields: ['m', 'k']",
                                         Columns(R"(["a:1,b:2;a:3"])", R"(["b;a"])"),
                                         {2, 3},
                                         {2}}});
}

TEST(Lookup, OwnColumn) {
  EXPECT_THAT(RunOwnColumn("lookup_feature", kInputs, "FG_NONE", float64(), "[1.5, 2]").dense,
              testing::ElementsAre(1.5, 2));
  EXPECT_THAT(
      RunOwnColumn("lookup_feature", kInputs + "value_dim: 2", "FG_BUCKETIZE", utf8(), R"(["1,2", "3,4"])").dense,
      testing::ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(RunOwnColumn("lookup_feature", kInputs + "hash_bucket_size: 100", "FG_BUCKETIZE", utf8(), R"(["x"])")
                  .sparse.values,
              testing::ElementsAre(35));
}

TEST(Lookup, WhatIsWrongIsNamed) {
  ExpectBad(
      "lookup_feature",
      {
          {kInputs, Columns(R"(["a:1", "a"])", R"(["a", "a"])"), "row 2, column m: \"a\" is not key:value (feature f)"},
          {kInputs, Columns(R"(["a:1", "a:x"])", R"(["a", "a"])"),
           "row 2, column m: \"x\" is not a number (feature f)"},
          {kInputs + "num_buckets: 9", Columns(R"(["a:x"])", R"(["a"])"), "row 1, column m: \"x\" is not an integer"},
          {kInputs,
           {{"m", map(utf8(), float64()), R"([[["a", null]]])"}, {"k", utf8(), R"(["a"])"}},
           "row 1, column m: has a null in the map (feature f)"},
      });
  // A value that nobody looks up is not looked at.
  ExpectNumbers("lookup_feature", {{kInputs, Columns(R"(["a:1\u001db:x"])", R"(["a"])"), {1}}});
}

TEST(KeyIndex, FindsTheFirstOfManyKeys) {
  std::vector<std::string> texts;
  for (int i = 0; i < 1000; ++i) texts.push_back(std::to_string(i % 700));
  const std::vector<std::string_view> keys(texts.begin(), texts.end());
  KeyIndex index;
  for (const CellRange range : {CellRange{0, 1000}, {3, 10}, {5, 5}, {100, 900}}) {
    index.Use(keys, range);
    for (int i = -1; i < 800; ++i) {
      int64_t expected = -1;
      for (int64_t at = range.end; at-- > range.begin;) {
        if (texts[at] == std::to_string(i)) expected = at;
      }
      EXPECT_EQ(index.Find(std::to_string(i)), expected) << i;
    }
  }
}

}  // namespace
}  // namespace anneal::features
