// overlap_feature (parity/features.md 4.13): values of the reference's tests, and its rules. The methods:
// overlap_method_test.
#include "tests/worker/features/derived_case.h"
#include "worker/features/fg_json.h"

namespace anneal::features {
namespace {

using arrow::list;
using arrow::utf8;

std::string Method(const std::string& name) { return "query: 'user:q' title: 'item:t' method: '" + name + "' "; }

TEST(Overlap, NumbersOfTheReference) {
  const auto words = list(utf8());
  ExpectNumbers("overlap_feature",
                {{Method("query_common_ratio"),
                  {{"q", utf8(), R"(["abc\u001defg", "abc\u001defg", "", null])"},
                   {"t", utf8(), R"(["abc\u001dqwe\u001drty\u001duio", "abc\u001defg\u001drty", "", null])"}},
                  {0.5f, 1, 0, 0}},
                 {Method("query_common_ratio"),
                  {{"q", words, R"([["abc", "efg"], ["abc", "efg"], [], null])"},
                   {"t", words, R"([["abc", "qwe", "rty", "uio"], ["abc", "efg", "rty"], [], null])"}},
                  {0.5f, 1, 0, 0}},
                 {Method("title_common_ratio"),
                  {{"q", utf8(), R"(["abc\u001defg", "abc\u001defg", "", null])"},
                   {"t", utf8(), R"(["abc\u001dqwe\u001drty\u001duio", "abc", "", null])"}},
                  {0.25f, 1, 0, 0}},
                 {Method("is_contain"),
                  {{"q", utf8(), R"(["abc\u001defg", "abc\u001defg", "", null])"},
                   {"t", utf8(), R"(["abc\u001dqwe\u001drty\u001duio", "abc\u001defg\u001drty", "", null])"}},
                  {0, 1, 0, 0}},
                 {Method("is_equal"),
                  {{"q", utf8(), R"(["abc\u001defg", "abc\u001defg", "", null])"},
                   {"t", utf8(), R"(["abc\u001defg\u001drty", "abc\u001defg", "", null])"}},
                  {0, 1, 0, 0}}});
  ExpectIds("overlap_feature",
            {{Method("query_common_ratio") + "boundaries: [0.25, 0.75]",
              {{"q", utf8(), R"(["abc\u001defg", "abc\u001defg", "", null])"},
               {"t", utf8(), R"(["abc\u001dqwe\u001drty\u001duio", "abc\u001defg\u001drty", "", null])"}},
              {1, 2, 0, 0},
              {1, 1, 1, 1}}});
}

TEST(Overlap, Numbers) {
  ExpectNumbers("overlap_feature",
                {// A side that is missing gives 0 whatever the method says, and the normalizer does not see it.
                 {Method("index_of") + "separator: ' ' normalizer: 'method=expression,expr=x*10+1'",
                  {{"q", utf8(), R"(["b", "z", "b", null])"}, {"t", utf8(), R"(["a b", "a b", "", "a b"])"}},
                  {11, -9, 0, 0}},
                 // Numbers as words, of one type and another.
                 {Method("title_common_ratio"),
                  {{"q", list(arrow::int64()), "[[1, 2]]"}, {"t", utf8(), R"(["2\u001d5\u001d7\u001d1"])"}},
                  {0.5f}}});
}

TEST(Overlap, InSequences) {
  const std::vector<Column> columns = {
      {"q", utf8(), R"(["abc\u001defg", "abc\u001defg", "abc"])"},
      {"t", utf8(), R"(["abc\u001drty;abc\u001defg", "qwe", ""])"},
      {"s__t", list(list(utf8())), R"([[["abc", "rty"], ["abc", "efg"]], [["qwe"]], []])"}};
  const std::string ratio = "method: 'query_common_ratio' query: 'user:q' ";
  for (const std::string& config :
       {"sequence_overlap_feature { feature_name: 'f' sequence_length: 50 " + ratio + "title: 'item:t' }",
        "sequence_overlap_feature { feature_name: 'f' " + ratio + "title: 'user:t' sequence_fields: 't' }",
        "sequence_feature { sequence_name: 's' sequence_length: 50 sequence_delim: ';' features { overlap_feature { "
        "feature_name: 'f' " +
            ratio + "title: 'item:t' } } }"}) {
    const data::Batch batch = RunConfig("data_config { fg_mode: FG_DAG } feature_configs { " + config + " }", columns);
    ASSERT_EQ(batch.dense_sequences.size(), 1u);
    EXPECT_EQ(batch.dense_sequences[0].values, (data::Buffer<float>{0.5f, 1, 0, 0})) << config;
    EXPECT_EQ(batch.dense_sequences[0].offsets, (data::Buffer<int64_t>{0, 2, 3, 4})) << config;
  }
}

TEST(Overlap, UnknownMethod) {
  const auto run = [] {
    RunConfig(OneFeature("overlap_feature", Method("is_common")), {{"q", utf8(), "[]"}, {"t", utf8(), "[]"}});
  };
  EXPECT_THAT(MessageOf(run), testing::HasSubstr("method \"is_common\" is not one of query_common_ratio, "));
}

// parity/features.md 8: without a default, but in a sequence.
TEST(Overlap, FgJson) {
  const std::string fields = Method("is_equal") + "normalizer: 'method=log10' boundaries: [1]";
  const auto entry = [](const std::string& kind, const std::string& fields) {
    return FgJson(ParseConfig(OneFeature(kind, fields)))["features"][0].dump();
  };
  EXPECT_EQ(entry("overlap_feature", fields),
            R"({"feature_type":"overlap_feature","feature_name":"f","query":"user:q","title":"item:t",)"
            R"("method":"is_equal","value_type":"float","separator":"\u001d","normalizer":"method=log10",)"
            R"("boundaries":[1.0]})");
  EXPECT_EQ(entry("sequence_overlap_feature", Method("is_equal") + "sequence_length: 5"),
            R"({"feature_type":"sequence_overlap_feature","feature_name":"f","query":"user:q","title":"item:t",)"
            R"("method":"is_equal","value_type":"float","separator":"\u001d","default_value":"0",)"
            R"("sequence_delim":";","sequence_length":5})");
}

}  // namespace
}  // namespace anneal::features
