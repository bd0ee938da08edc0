// kv_dot_product (parity/features.md 4.15): values of the reference's tests and documents, and its rules.
#include "tests/worker/features/derived_case.h"
#include "worker/features/fg_json.h"

namespace anneal::features {
namespace {

using arrow::float32;
using arrow::list;
using arrow::map;
using arrow::utf8;

const std::string kTwo = "query: 'user:q' document: 'item:d' separator: '|' ";

struct Sides {
  std::shared_ptr<arrow::DataType> type;
  const char *query, *document;
};

const std::vector<Sides> kReference = {
    {utf8(), R"(["a:0.5|b:0.5", "a|b|c", "a|b", null])", R"(["a:0.5|b:0.5", "a|b", "", ""])"},
    {list(utf8()), R"([["a:0.5", "b:0.5"], ["a", "b", "c"], ["a", "b"], null])",
     R"([["a:0.5", "b:0.5"], ["a", "b"], [], []])"},
    {map(utf8(), float32()),
     R"([[["a", 0.5], ["b", 0.5]], [["a", 1], ["b", 1], ["c", 1]], [["a", 1], ["b", 1]], null])",
     R"([[["a", 0.5], ["b", 0.5]], [["a", 1], ["b", 1]], [], []])"}};

TEST(KvDotProduct, NumbersOfTheReference) {
  for (const Sides& one : kReference) {
    const std::vector<Column> columns = {{"q", one.type, one.query}, {"d", one.type, one.document}};
    ExpectNumbers("kv_dot_product", {{kTwo + "default_value: '0.1'", columns, {0.5f, 2, 0.1f, 0.1f}}});
    const std::string buckets = kTwo + "boundaries: [0.05, 0.15, 1.0] ";
    ExpectIds("kv_dot_product", {{buckets + "default_value: '0.1'", columns, {2, 3, 1, 1}, {1, 1, 1, 1}},
                                 {buckets + "default_value: ''", columns, {2, 3}, {1, 1, 0, 0}}});
  }
}

TEST(KvDotProduct, InputsOfDifferentTypes) {
  const Column query{"q", list(utf8()), R"([["a", "b", "c"]])"}, weighted{"q", list(utf8()), R"([["a:0.5", "b:0.5"]])"};
  ExpectNumbers("kv_dot_product",
                {{kTwo, {query, {"d", utf8(), R"(["a|b|d"])"}}, {2}},
                 {kTwo, {query, {"d", map(utf8(), float32()), R"([[["a", 0.5], ["b", 0.5]]])"}}, {1}},
                 {kTwo, {weighted, {"d", map(utf8(), float32()), R"([[["d", 0.5], ["b", 0.5]]])"}}, {0.25f}},
                 {kTwo, {query, {"d", utf8(), R"(["x:3"])"}}, {0}},
                 {kTwo,
                  {{"q", map(arrow::int64(), arrow::float64()), "[[[1, 2], [7, 3]]]"}, {"d", utf8(), R"(["7:0.5|8"])"}},
                  {1.5f}}});
}

TEST(KvDotProduct, InSequences) {
  const std::vector<Column> columns = {{"q", utf8(), R"(["a:0.5|b:0.5", "a|b|c", "a"])"},
                                       {"d", utf8(), R"(["a:0.5|b:0.5;a|b", "a|b", ""])"}};
  const std::string query = "query: 'user:q' separator: '|' default_value: '0.1' ";
  for (const std::string& fields : {query + "document: 'item:d'", query + "document: 'user:d' sequence_fields: 'd'"}) {
    const data::Batch batch =
        RunConfig("data_config { fg_mode: FG_DAG } feature_configs { sequence_kv_dot_product { feature_name: 'f' " +
                      fields + " } }",
                  columns);
    ASSERT_EQ(batch.dense_sequences.size(), 1u);
    EXPECT_EQ(batch.dense_sequences[0].values, (data::Buffer<float>{0.5f, 1, 2, 0.1f}));
    EXPECT_EQ(batch.dense_sequences[0].offsets, (data::Buffer<int64_t>{0, 2, 3, 4}));
  }
}

TEST(KvDotProduct, BadData) {
  ExpectBad("kv_dot_product", {{kTwo,
                                {{"q", utf8(), R"(["a", "a:x"])"}, {"d", utf8(), R"(["a", "a"])"}},
                                "row 2, column q: \"x\" is not a number"}});
}

// parity/features.md 8.
TEST(KvDotProduct, FgJson) {
  EXPECT_EQ(FgJson(ParseConfig(OneFeature("kv_dot_product", kTwo + "boundaries: [1]")))["features"][0].dump(),
            R"({"feature_type":"kv_dot_product","feature_name":"f","query":"user:q","document":"item:d",)"
            R"("default_value":"0","separator":"|","boundaries":[1.0]})");
}

}  // namespace
}  // namespace anneal::features
