// combo_feature (parity/features.md 4.8): golden ids of the reference, and its rules.
#include "tests/worker/features/derived_case.h"

namespace anneal::features {
namespace {

using arrow::float64;
using arrow::int64;
using arrow::list;
using arrow::map;
using arrow::utf8;

const std::string kTwo = "expression: 'user:a' expression: 'item:b' ";
const std::string kHashed = kTwo + "hash_bucket_size: 100 ";

// "ua_ia" is 37, "ua_ib" 90, "ub_ia" 5, "ub_ib" 97 modulo 100.
TEST(Combo, IdsOfTheReference) {
  const auto words = list(utf8());
  ExpectIds("combo_feature",
            {
                {kHashed,
                 {{"a", utf8(), R"(["ua\u001dub", "ua", "", null, "ub"])"},
                  {"b", utf8(), R"(["ia\u001dib", "ib", "ia", "ia", ""])"}},
                 {37, 90, 5, 97, 90},
                 {4, 1, 0, 0, 0}},
                {kHashed,
                 {{"a", words, R"([["ua", "ub"], ["ua"], [], null])"},
                  {"b", words, R"([["ia", "ib"], ["ib"], ["ia"], ["ia"]])"}},
                 {37, 90, 5, 97, 90},
                 {4, 1, 0, 0}},
                {kHashed + "value_dim: 1",
                 {{"a", utf8(), R"(["ua\u001dub"])"}, {"b", words, R"([["ib", "ia"]])"}},
                 {90},
                 {1}},
                {kHashed + "value_dim: 3",
                 {{"a", words, R"([["ua", "ub"]])"}, {"b", words, R"([["ia", "ib"]])"}},
                 {37, 90, 5},
                 {3}},
                {kHashed + "separator: ','",
                 {{"a", utf8(), R"(["ua,,ub"])"}, {"b", map(utf8(), float64()), R"([[["ia", 1.5], ["ib", 2]]])"}},
                 {37, 90, 5, 97},
                 {4}},
                // The default is one word, hashed: "0" is 26.
                {kHashed + "default_value: '0'",
                 {{"a", utf8(), R"(["ua", null])"}, {"b", utf8(), R"([null, "ib"])"}},
                 {26, 26},
                 {1, 1}},
                // Numbers are written in decimal.
                {kTwo + "vocab_list: ['1_2.5', '-7_3'] default_bucketize_value: 0",
                 {{"a", int64(), "[1, -7, null]"}, {"b", float64(), "[2.5, 3, 3]"}},
                 {0, 1},
                 {1, 1, 0}},
                {kTwo + "vocab_list: ['100000_0.0001', '1_123456789'] default_bucketize_value: 0",
                 {{"a", float64(), "[1e5, 1]"}, {"b", float64(), "[1e-4, 123456789]"}},
                 {0, 1},
                 {1, 1}},
                {kTwo + "vocab_list: ['x_y'] default_value: 'd'",
                 {{"a", utf8(), R"(["x", "x", ""])"}, {"b", utf8(), R"(["y", "z", "y"])"}},
                 {2, 1, 0},
                 {1, 1, 1}},
                {kTwo + "expression: 'context:c' vocab_dict { key: 'x_y_z' value: 5 }",
                 {{"a", utf8(), R"(["x"])"}, {"b", utf8(), R"(["y"])"}, {"c", utf8(), R"(["z"])"}},
                 {5},
                 {1}},
            });
}

TEST(Combo, InSequences) {
  const std::string alone = kHashed + "sequence_fields: 'b' ";
  const std::vector<IdCase> cases = {
      // A plain input is combined with every element, several values of an element: the first.
      {kHashed,
       {{"a", utf8(), R"(["ua", "ub", "ua"])"}, {"b", utf8(), R"(["ia;ib", "ia\u001dib;ib", ""])"}},
       {37, 90, 5, 97, 26},
       {2, 2, 1}},
      {alone,
       {{"a", utf8(), R"(["ua", null])"}, {"b", list(utf8()), R"([["ia", "ib"], ["ia", "ib"]])"}},
       {37, 90, 26, 26},
       {2, 2}},
      {alone + "sequence_length: 1 default_value: 'ua_ib'",
       {{"a", utf8(), R"(["ua", "ua"])"}, {"b", list(list(utf8())), R"([[["ia"], ["ib"]], [[], ["ia"]]])"}},
       {37, 90},
       {1, 1}},
      {kHashed + "sequence_fields: ['a', 'b'] sequence_delim: '|'",
       {{"a", utf8(), R"(["ua|ub", "ua", null])"}, {"b", utf8(), R"(["ia|ib", "ib", "ia|ib"])"}},
       {37, 97, 90, 26},
       {2, 1, 1}},
  };
  ExpectIds("sequence_combo_feature", cases);
  ExpectBad("sequence_combo_feature",
            {{kHashed + "sequence_fields: ['a', 'b']",
              {{"a", utf8(), R"(["ua", "ua;ub;uc"])"}, {"b", utf8(), R"(["ib", "ia;ib"])"}},
              "row 2, column a: has a sequence of 2 elements in column b, in column a of 3 (feature f)"}});
  // In a sequence_feature: the sequence's input has the group's prefix, the other one has not.
  const data::Batch batch = RunConfig(
      "data_config { fg_mode: FG_DAG } feature_configs { sequence_feature { sequence_name: 's' sequence_length: 2 "
      "sequence_delim: '|' features { combo_feature { feature_name: 'f' embedding_dim: 4 " +
          kHashed + "} } } }",
      {{"a", utf8(), R"(["ua", "ub"])"}, {"s__b", utf8(), R"(["ia|ib|ia", "ib"])"}});
  EXPECT_EQ(batch.sparse.values, (std::vector<int64_t>{37, 90, 97}));
  EXPECT_EQ(Lengths(batch.sparse), (std::vector<int64_t>{2, 1}));
}

TEST(Combo, EncodedValuesAreInTheFeaturesOwnColumn) {
  data::Batch batch = RunOwnColumn("combo_feature", kHashed, "FG_NONE", utf8(), R"(["3\u00031", null, "7"])");
  EXPECT_EQ(batch.sparse.values, (std::vector<int64_t>{3, 1, 7}));
  EXPECT_EQ(Lengths(batch.sparse), (std::vector<int64_t>{2, 0, 1}));
  batch = RunOwnColumn("combo_feature", kHashed, "FG_BUCKETIZE", utf8(), R"(["ua_ia\u001dub_ib", "ua_ib"])");
  EXPECT_EQ(batch.sparse.values, (std::vector<int64_t>{37, 97, 90}));
}

TEST(Combo, WhatIsWrongIsNamed) {
  ExpectBad("combo_feature",
            {
                {kHashed, {{"a", utf8(), R"(["x"])"}}, "feature f: column b is missing"},
                {kHashed,
                 {{"a", arrow::boolean(), "[true]"}, {"b", utf8(), R"(["x"])"}},
                 "feature f: column a has dtype bool, only support str|int|float and list or map of these"},
                {kHashed,
                 {{"a", utf8(), R"(["x", "x"])"}, {"b", list(utf8()), R"([["x"], ["y", null]])"}},
                 "row 2, column b: has a null in the list (feature f)"},
                {kHashed,
                 {{"a", list(list(utf8())), R"([[["x"]]])"}, {"b", utf8(), R"(["x"])"}},
                 "column a has dtype list<item: list<item: string>>"},
            });
  std::string many = "x";
  for (int i = 0; i < 5000; ++i) many += ",x";
  ExpectBad("combo_feature", {{kHashed + "separator: ','",
                               {{"a", utf8(), "[\"" + many + "\"]"}, {"b", utf8(), "[\"" + many + "\"]"}},
                               "row 1, column a: makes more than 16777216 combinations"}});
  ExpectIds("combo_feature", {{kHashed + "value_dim: 1 separator: ','",  // of which one is kept
                               {{"a", utf8(), "[\"ua," + many + "\"]"}, {"b", utf8(), "[\"ia," + many + "\"]"}},
                               {37},
                               {1}}});
}

}  // namespace
}  // namespace anneal::features
