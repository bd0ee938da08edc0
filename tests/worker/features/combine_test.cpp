// combine_feature (parity/features.md 4.9): golden numbers of the reference, and its rules.
#include <cmath>

#include "tests/worker/features/derived_case.h"

namespace anneal::features {
namespace {

using arrow::float64;
using arrow::int64;
using arrow::list;
using arrow::utf8;

const std::string kInput = "expression: 'user:a' ";

TEST(Combine, Numbers) {
  const char* two = R"(["1.0\u001d2.0"])";
  ExpectNumbers("combine_feature",
                {
                    {kInput, {{"a", utf8(), two}}, {3}},
                    {kInput + "combiner: 'mean'", {{"a", utf8(), two}}, {1.5}},
                    {kInput + "combiner: 'AVG'", {{"a", list(float64()), "[[1, 2]]"}}, {1.5}},
                    {kInput + "combiner: 'min'", {{"a", list(int64()), "[[4, -2, 7]]"}}, {-2}},
                    {kInput + "combiner: 'max'", {{"a", list(utf8()), R"([["4", "-2", "7"]])"}}, {7}},
                    {kInput + "combiner: 'count' separator: '|'", {{"a", utf8(), R"(["4||7"])"}}, {2}},
                    {kInput, {{"a", float64(), "[1.5, null]"}}, {1.5, 0}},
                    {kInput + "default_value: '7'", {{"a", utf8(), R"(["", null, "1"])"}}, {7, 7, 1}},
                    {kInput + "default_value: '7'", {{"a", list(float64()), "[[], null]"}}, {7, 7}},
                    // The normalizer sees the combined number, no default.
                    {kInput + "normalizer: 'method=minmax,min=0,max=2' default_value: '7'",
                     {{"a", list(float64()), "[[1, 2], []]"}},
                     {1.5, 7}},
                    {kInput + "separator: ',' value_map { key: 'x' value: 2 } value_map { key: 'y' value: 0.5 }",
                     {{"a", utf8(), R"(["x,y", "x,z", "z", "y"])"}},
                     {2.5, 2, 0, 0.5}},
                    {kInput + "value_map { key: '1' value: 2 }", {{"a", list(int64()), "[[1, 1]]"}}, {4}},
                    {kInput + "value_map { key: '100000' value: 2 }", {{"a", float64(), "[100000]"}}, {2}},
                    // Too small for a number of its type.
                    {kInput, {{"a", utf8(), R"(["1e-400\u001d3"])"}}, {3}},
                });
}

TEST(Combine, Ids) {
  ExpectIds(
      "combine_feature",
      {
          // The mean 1.5 is row 1.
          {kInput + "combiner: 'mean' num_buckets: 10", {{"a", utf8(), R"(["1.0\u001d2.0", null])"}}, {1}, {1, 0}},
          {kInput + "num_buckets: 10 default_value: '4'", {{"a", list(int64()), "[[1, 2], []]"}}, {3, 4}, {1, 1}},
          // The normalizer comes first: 1.6 becomes 3.2, the mean of 2.5 and 2.6 5.1.
          {kInput + "combiner: 'mean' num_buckets: 10 normalizer: 'method=expression,expr=x*2'",
           {{"a", utf8(), R"(["1.6", "2.5\u001d2.6"])"}},
           {3, 5},
           {1, 1}},
          {kInput + "boundaries: [0, 1.5, 2.5] combiner: 'mean'",
           {{"a", list(float64()), "[[1, 2], [9], [-3, 1], []]"}},
           {2, 3, 0},
           {1, 1, 1, 0}},
          {kInput + "boundaries: [0, 1.5] default_value: '1'", {{"a", float64(), "[null, 2]"}}, {1, 2}, {1, 1}},
      });
}

TEST(Combine, NanStays) {
  for (const char* combiner : {"min", "max", "sum", "mean"}) {
    for (const char* cell : {R"(["nan\u001d1"])", R"(["1\u001dnan"])", R"(["-3\u001dnan\u001d7"])"}) {
      const auto batch =
          RunConfig(OneFeature("combine_feature", kInput + "combiner: '" + combiner + "'"), {{"a", utf8(), cell}});
      EXPECT_TRUE(std::isnan(batch.dense.at(0))) << combiner << " " << cell;
    }
  }
}

TEST(Combine, InSequences) {
  // Of an element's values one number; a default is "0".
  const data::Batch batch = RunConfig(OneFeature("sequence_combine_feature", kInput + "separator: '|'"),
                                      {{"a", utf8(), R"(["1|2;3;;4", "", null])"}});
  ASSERT_EQ(batch.dense_sequences.size(), 1u);
  EXPECT_THAT(batch.dense_sequences[0].values, testing::ElementsAre(3, 3, 0, 4, 0, 0));
  EXPECT_THAT(batch.dense_sequences[0].offsets, testing::ElementsAre(0, 4, 5, 6));
  ExpectIds("sequence_combine_feature", {{kInput + "num_buckets: 9 sequence_length: 2 combiner: 'max'",
                                          {{"a", list(list(int64())), "[[[1, 2], [3], [4]], [[], [5]], []]"}},
                                          {2, 3, 0, 5, 0},
                                          {2, 2, 1}}});
}

TEST(Combine, OwnColumn) {
  EXPECT_THAT(RunOwnColumn("combine_feature", kInput, "FG_NONE", float64(), "[1.5, 2]").dense,
              testing::ElementsAre(1.5, 2));
  EXPECT_THAT(
      RunOwnColumn("combine_feature", kInput + "boundaries: 1", "FG_BUCKETIZE", float64(), "[1.5, 0]").sparse.values,
      testing::ElementsAre(1, 0));
  EXPECT_THAT(RunOwnColumn("combine_feature", kInput + "num_buckets: 4", "FG_NONE", int64(), "[3, 0]").sparse.values,
              testing::ElementsAre(3, 0));
}

TEST(Combine, WhatIsWrongIsNamed) {
  ExpectBad("combine_feature",
            {
                {kInput, {{"a", utf8(), R"(["1", "1\u001dx"])"}}, "row 2, column a: \"x\" is not a number (feature f)"},
                {kInput,
                 {{"a", arrow::map(utf8(), int64()), R"([[["x", 1]]])"}},
                 "feature f: column a has dtype map<string, int64>, only support str|int|float and list of these"},
                {kInput + "num_buckets: 9", {{"a", float64(), "[1e300]"}}, "row 1, column a: makes 1"},
            });
  EXPECT_THAT(MessageOf([] {
                RunConfig(OneFeature("combine_feature", kInput + "combiner: 'gap'"), {{"a", utf8(), "[]"}});
              }),
              testing::HasSubstr("feature f: combiner \"gap\" is not one of sum, mean, avg, min, max, count"));
}

}  // namespace
}  // namespace anneal::features
