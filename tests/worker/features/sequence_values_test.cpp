// Sequences: elements of ids and of numbers (parity/features.md 3, 4.1, 4.6).
#include <gmock/gmock.h>

#include "tests/worker/features/feature_case.h"
#include "worker/config/error.h"

namespace anneal::features {
namespace {

using arrow::float32;
using arrow::float64;
using arrow::int32;
using arrow::int64;
using arrow::list;
using arrow::utf8;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Case {
  std::string fields;
  std::shared_ptr<arrow::DataType> type;
  const char* json;
  std::vector<int64_t> values, lengths;
};

struct DenseCase {
  std::string fields;
  std::shared_ptr<arrow::DataType> type;
  const char* json;
  std::vector<float> values;
  std::vector<int64_t> offsets;
};

struct BadCase {
  std::string feature;
  std::shared_ptr<arrow::DataType> type;
  const char *json, *part;
};

std::string Mode(const std::string& mode) { return "data_config { fg_mode: " + mode + " } "; }

std::string Id(const std::string& fields) {
  return "feature_configs { sequence_id_feature { feature_name: 'f' expression: 'user:x' embedding_dim: 4 " + fields +
         " } } ";
}

std::string Raw(const std::string& fields) {
  return "feature_configs { sequence_raw_feature { feature_name: 'f' expression: 'user:x' " + fields + " } } ";
}

/// Columns of both names: FG_NONE and FG_BUCKETIZE read f, the other modes x.
data::Batch Read(const std::string& config, const std::shared_ptr<arrow::DataType>& type, const char* json) {
  return RunConfig(config, {{"f", type, json}, {"x", type, json}});
}

void ExpectValues(const std::string& config, const Case& one) {
  const data::Batch batch = Read(config, one.type, one.json);
  EXPECT_EQ(batch.sparse.values, one.values) << config << one.json;
  EXPECT_EQ(Lengths(batch.sparse), one.lengths) << config << one.json;
  EXPECT_THAT(batch.dense_sequences, IsEmpty());
}

void ExpectDense(const std::string& config, const DenseCase& one) {
  const data::Batch batch = Read(config, one.type, one.json);
  ASSERT_EQ(batch.dense_sequences.size(), 1u);
  EXPECT_EQ(batch.dense_sequences[0].values, one.values) << config << one.json;
  EXPECT_EQ(batch.dense_sequences[0].offsets, one.offsets) << config << one.json;
  EXPECT_THAT(batch.sparse.values, IsEmpty());
  EXPECT_THAT(batch.dense, IsEmpty());
}

void ExpectFaults(const std::string& mode, const std::vector<BadCase>& cases) {
  for (const BadCase& one : cases) {
    EXPECT_THAT(MessageOf([&] { Read(Mode(mode) + one.feature, one.type, one.json); }), HasSubstr(one.part))
        << one.feature << one.json;
    EXPECT_THROW(Read(Mode(mode) + one.feature, one.type, one.json), DataError) << one.feature << one.json;
  }
}

TEST(EncodedSequences, Ids) {
  const std::string id = "num_buckets: 100 ", with_default = id + "fg_encoded_default_value: '7' ";
  const auto nested = list(list(int64()));
  const Case cases[] = {
      {id, utf8(), R"(["1;2;3", "", null, "4"])", {1, 2, 3, 4}, {3, 0, 0, 1}},
      {id + "sequence_delim: '|'", utf8(), R"(["1|2", "3"])", {1, 2, 3}, {2, 1}},
      {with_default, utf8(), R"(["1;2", "", null])", {1, 2, 7, 7}, {2, 1, 1}},
      {id, list(int64()), "[[1, 2], [], null, [3]]", {1, 2, 3}, {2, 0, 0, 1}},
      {id, list(int64()), "[[1, 2], [], [3]]", {1, 2, 3}, {2, 0, 1}},
      {with_default, list(int64()), "[[1, 2], [], null, [3]]", {1, 2, 7, 7, 3}, {2, 1, 1, 1}},
      {with_default, list(int64()), "[[1, 2], [4], [3]]", {1, 2, 4, 3}, {2, 1, 1}},
      {id, list(int32()), "[[1, 2], [3]]", {1, 2, 3}, {2, 1}},
      {id, list(utf8()), R"([["1", "2"], [], null, ["3"]])", {1, 2, 3}, {2, 0, 0, 1}},
      {id, nested, "[[[1], [2]], [], null, [[3]]]", {1, 2, 3}, {2, 0, 0, 1}},
      {with_default, nested, "[[[1], [2]], [], null]", {1, 2, 7, 7}, {2, 1, 1}},
      {id, list(list(utf8())), R"([[["1"], ["2"]]])", {1, 2}, {2}},
      {id, int64(), "[5, 6]", {5, 6}, {1, 1}},
      {id, int32(), "[5, null]", {5}, {1, 0}},
      {with_default, int64(), "[5, null]", {5, 7}, {1, 1}},
      // Feature generation cuts, not FG_NONE.
      {id + "sequence_length: 2", utf8(), R"(["1;2;3"])", {1, 2, 3}, {3}},
      {id + "sequence_length: 2", list(int64()), "[[1, 2, 3]]", {1, 2, 3}, {3}},
      {id + "value_dim: 1", list(int64()), "[[1, 2, 3]]", {1, 2, 3}, {3}},
  };
  for (const Case& one : cases) ExpectValues(Id(one.fields), one);
}

TEST(EncodedSequences, BucketsAreIds) {
  ExpectValues(Raw("boundaries: [1, 2] embedding_dim: 4"), {"", utf8(), R"(["2;0", null])", {2, 0}, {2, 0}});
  ExpectValues(Raw("boundaries: [1, 2] embedding_dim: 4"), {"", list(int64()), "[[2, 0], []]", {2, 0}, {2, 0}});
}

TEST(EncodedSequences, Numbers) {
  const std::string with_default = "fg_encoded_default_value: '0.25' ";
  const auto vectors = list(list(float32()));
  const DenseCase cases[] = {
      {"", utf8(), R"(["1.5;2", "", null, "3"])", {1.5f, 2, 3}, {0, 2, 2, 2, 3}},
      {with_default, utf8(), R"(["1.5;2", "", null])", {1.5f, 2, 0.25f, 0.25f}, {0, 2, 3, 4}},
      {"value_dim: 2", utf8(), R"(["1\u00032;3\u00034", null])", {1, 2, 3, 4}, {0, 2, 2}},
      {"", list(float32()), "[[1, 2], [], null, [3]]", {1, 2, 3}, {0, 2, 2, 2, 3}},
      {with_default, list(float64()), "[[1, 2], [], null]", {1, 2, 0.25f, 0.25f}, {0, 2, 3, 4}},
      {"", list(int64()), "[[1, 2], [3]]", {1, 2, 3}, {0, 2, 3}},
      {"", list(utf8()), R"([["1", "0.5"]])", {1, 0.5f}, {0, 2}},
      {"value_dim: 2", list(utf8()), R"([["1\u00032", "3\u00034"], []])", {1, 2, 3, 4}, {0, 2, 2}},
      {"", vectors, "[[[1], [2]], [], [[3]]]", {1, 2, 3}, {0, 2, 2, 3}},
      {"value_dim: 2", vectors, "[[[1, 2], [3, 4]], null, [[5, 6]]]", {1, 2, 3, 4, 5, 6}, {0, 2, 2, 3}},
      {"value_dim: 2 fg_encoded_default_value: '8\\0039'", vectors, "[[], [[5, 6]]]", {8, 9, 5, 6}, {0, 1, 2}},
      {"", float32(), "[0.5, null]", {0.5f}, {0, 1, 1}},
      {"", int64(), "[2, 3]", {2, 3}, {0, 1, 2}},
      {"sequence_length: 1", list(float32()), "[[1, 2, 3]]", {1, 2, 3}, {0, 3}},
  };
  for (const DenseCase& one : cases) ExpectDense(Raw(one.fields), one);
}

TEST(EncodedSequences, BadValues) {
  const std::string id = Id("num_buckets: 100"), raw = Raw("");
  const auto nested = list(list(int64())), vectors = list(list(float32()));
  ExpectFaults(
      "FG_NONE",
      {
          {id, utf8(), R"(["1", "1;x"])", "row 2, column f: \"x\" is not an integer (feature f)"},
          {id, utf8(), R"(["1;;2"])", "row 1, column f: \"\" is not an integer"},
          {id, utf8(), R"(["1;2;"])", "row 1, column f: \"\" is not an integer"},
          {id, utf8(), R"(["3;1\u00032"])", "row 1, column f: \"1\\x032\" has 2 values where value_dim is 1"},
          {id, list(utf8()), R"([["1"], ["1\u00032"]])",
           "row 2, column f: \"1\\x032\" has 2 values where value_dim is 1"},
          {id, list(utf8()), R"([["1", ""]])", "\"\" is not an integer"},
          {id, list(int64()), "[[1], [2, null]]", "row 2, column f: has a null in the list"},
          {id, nested, "[[[1]], [[2], [3, 4]]]",
           "row 2, column f: has an element that has 2 values where value_dim is 1"},
          {id, nested, "[[[1]], [[]]]", "row 2, column f: has an element that has 0 values where value_dim is 1"},
          {id, nested, "[[null]]", "row 1, column f: has an element that has 0 values"},
          {id, nested, "[[[null]]]", "has a null in the list"},
          {id, float32(), "[1.0]", "only support str|int|list<str>|list<int>|list<list<str>>|list<list<int>>"},
          {id, list(float32()), "[[1.0]]", "column f has dtype list"},
          {id, arrow::map(int64(), float32()), "[[]]", "only support str|int"},
          {id, list(nested), "[[[[1]]]]", "only support str|int"},
          {raw, utf8(), R"(["1", "1;x"])", "row 2, column f: \"x\" is not a number (feature f)"},
          {raw, utf8(), R"(["1;;2"])", "row 1, column f: has an empty element"},
          {raw, utf8(), R"(["1\u00032"])", "row 1, column f: has 2 values where value_dim is 1"},
          {raw, list(float32()), "[[1, null]]", "has a null in the list"},
          {raw, vectors, "[[[1]], [[]]]", "row 2, column f: has an empty element"},
          {Raw("value_dim: 2"), vectors, "[[[1, 2], [3]]]", "row 1, column f: has 1 values where value_dim is 2"},
          {Raw("value_dim: 2"), list(float32()), "[[1, 2]]", "one number per element, where value_dim is 2"},
          {raw, arrow::map(utf8(), float32()), "[[]]", "only support str|int|float and list or list<list> of these"},
      });
  EXPECT_THROW(Read(Id("num_buckets: 9 fg_encoded_default_value: '1\\0032'"), utf8(), "[\"1\"]"), ConfigError);
  EXPECT_THROW(Read(Raw("fg_encoded_default_value: '1\\0032'"), utf8(), "[\"1\"]"), ConfigError);
}

// The hashes are those of 4.2: mod 100 "abc" 33, "efg" 44, "hij" 66, "xyz" 13, "0" 26, "1" 95, "2" 70, "3" 13.
TEST(GeneratedSequences, Ids) {
  const std::string hash = "hash_bucket_size: 100 ";
  const Case cases[] = {
      // Without a default "0" is one: a missing sequence has one element (4.1).
      {hash, utf8(), R"(["abc;efg", "", null])", {33, 44, 26, 26}, {2, 1, 1}},
      {hash + "default_value: 'xyz'", utf8(), R"(["hij", null])", {66, 13}, {1, 1}},
      {hash, list(utf8()), R"([["abc", "efg"], [], null])", {33, 44, 26, 26}, {2, 1, 1}},
      {hash, list(int64()), "[[1, 2], [], null]", {95, 70, 26, 26}, {2, 1, 1}},
      {hash, int64(), "[1, null]", {95, 26}, {1, 1}},
      // The first of several values (4.6, golden): an element has value_dim 1.
      {hash, utf8(), R"(["abc\u001defg;hij"])", {33, 66}, {2}},
      {hash + "separator: ','", utf8(), R"(["abc,efg;hij"])", {33, 66}, {2}},
      {hash, list(utf8()), R"([["abc\u001defg", "hij"]])", {33, 66}, {2}},
      {hash, list(list(utf8())), R"([[["abc", "efg"], ["hij"]], []])", {33, 66, 26}, {2, 1}},
      // A missing element is the default.
      {hash + "default_value: 'xyz'", utf8(), R"(["abc;;hij;"])", {33, 13, 66, 13}, {4}},
      {hash + "default_value: 'xyz'", list(utf8()), R"([["abc", "", null]])", {33, 13, 13}, {3}},
      {hash, list(int64()), "[[1, null]]", {95, 26}, {2}},
      {hash, list(list(utf8())), R"([[["abc"], [], null]])", {33, 26, 26}, {3}},
      // No more elements than sequence_length, the first ones.
      {hash + "sequence_length: 2", utf8(), R"(["abc;efg;hij", "abc"])", {33, 44, 33}, {2, 1}},
      {hash + "sequence_length: 2", list(utf8()), R"([["abc", "efg", "hij"]])", {33, 44}, {2}},
      {hash + "sequence_length: 1", list(list(utf8())), R"([[["abc"], ["efg"]]])", {33}, {1}},
      {hash + "sequence_length: 1", int64(), "[1]", {95}, {1}},
      // Ids that are rows already.
      {"num_buckets: 10", list(int64()), "[[3, 4], [], [5]]", {3, 4, 0, 5}, {2, 1, 1}},
      {"num_buckets: 10 default_value: '9'", list(int64()), "[[3, 4], [5], null]", {3, 4, 5, 9}, {2, 1, 1}},
      {"num_buckets: 10 sequence_length: 2", list(int64()), "[[3, 4], [5]]", {3, 4, 5}, {2, 1}},
      {"num_buckets: 10 sequence_length: 2", list(int64()), "[[3, 4, 5], [6]]", {3, 4, 6}, {2, 1}},
      // "0" takes the first row of a vocabulary that reserves two (4.3).
      {"vocab_list: ['abc', 'efg']", utf8(), R"(["efg;hij;0", ""])", {3, 1, 0, 0}, {3, 1}},
      {"vocab_dict { key: 'abc' value: 2 }", utf8(), R"(["abc;hij", ""])", {2, 1, 0}, {2, 1}},
      {"vocab_list: ['abc', 'efg'] default_bucketize_value: 1", utf8(), R"(["abc", ""])", {0, 1}, {1, 1}},
  };
  for (const Case& one : cases) {
    for (const char* mode : {"FG_NORMAL", "FG_DAG", "FG_BUCKETIZE"}) ExpectValues(Mode(mode) + Id(one.fields), one);
  }
}

// 4.5: boundaries [-0.5, 0.5, 1.5, 2.5]: 1.5 -> 3, 0 -> 1.
TEST(GeneratedSequences, Buckets) {
  const std::string fields = "embedding_dim: 4 boundaries: [-0.5, 0.5, 1.5, 2.5] ";
  const Case cases[] = {
      {fields, utf8(), R"(["1.5;0;99", ""])", {3, 1, 4, 1}, {3, 1}},
      {fields, list(float32()), "[[1.5, null], null]", {3, 1, 1}, {2, 1}},
      {fields + "default_value: ''", list(float64()), "[[]]", {1}, {1}},
      {fields + "default_value: '2'", list(list(float32())), "[[[1.5, 0], []]]", {3, 3}, {2}},
      {fields, float32(), "[1.5]", {3}, {1}},
      {fields + "sequence_length: 1", list(int64()), "[[1, 2]]", {2}, {1}},
  };
  for (const Case& one : cases) {
    for (const char* mode : {"FG_NORMAL", "FG_BUCKETIZE"}) ExpectValues(Mode(mode) + Raw(one.fields), one);
  }
  // The normalizer comes first, but not for the default.
  const Case normalized{
      fields + "normalizer: 'method=log10' default_value: '100'", list(float32()), "[[100, null]]", {3, 4}, {2}};
  ExpectValues(Mode("FG_DAG") + Raw(normalized.fields), normalized);
}

TEST(GeneratedSequences, Numbers) {
  const DenseCase cases[] = {
      {"", utf8(), R"(["1.5;2", "", null])", {1.5f, 2, 0, 0}, {0, 2, 3, 4}},
      {"default_value: ''", utf8(), R"([""])", {0}, {0, 1}},
      {"default_value: '5'", utf8(), R"(["1;;2"])", {1, 5, 2}, {0, 3}},
      {"", utf8(), R"(["1\u001d9;2"])", {1, 2}, {0, 2}},
      {"value_dim: 2 separator: ','", utf8(), R"(["1,2;3,4", ""])", {1, 2, 3, 4, 0, 0}, {0, 2, 3}},
      {"default_value: '5'", list(float32()), "[[1, null], [], null]", {1, 5, 5, 5}, {0, 2, 3, 4}},
      {"value_dim: 2 default_value: '8\\0359'",
       list(list(float32())),
       "[[[1, 2], []], null]",
       {1, 2, 8, 9, 8, 9},
       {0, 2, 3}},
      {"", list(list(float32())), "[[[1, 2], [3]]]", {1, 3}, {0, 2}},
      {"sequence_length: 2", utf8(), R"(["1;2;3"])", {1, 2}, {0, 2}},
      {"sequence_length: 2", list(float32()), "[[1, 2, 3], [4]]", {1, 2, 4}, {0, 2, 3}},
      {"sequence_length: 1", list(list(float32())), "[[[1], [2]]]", {1}, {0, 1}},
      {"", float32(), "[3, null]", {3, 0}, {0, 1, 2}},
  };
  for (const DenseCase& one : cases) {
    for (const char* mode : {"FG_NORMAL", "FG_DAG", "FG_BUCKETIZE"}) ExpectDense(Mode(mode) + Raw(one.fields), one);
  }
  const DenseCase normalized{
      "normalizer: 'method=log10' default_value: '0.01'", list(float32()), "[[1000, null]]", {3, 0.01f}, {0, 2}};
  ExpectDense(Mode("FG_NORMAL") + Raw(normalized.fields), normalized);
}

TEST(GeneratedSequences, BadValues) {
  ExpectFaults(
      "FG_NORMAL",
      {
          {Id("num_buckets: 9"), utf8(), R"(["1", "1;2.5"])", "row 2, column x: \"2.5\" is not an integer (feature f)"},
          {Id("hash_bucket_size: 9"), list(list(utf8())), R"([[[null]]])", "has a null in the list"},
          {Raw("embedding_dim: 4 boundaries: 1"), utf8(), R"(["1;z"])", "\"z\" is not a number"},
          {Raw(""), utf8(), R"(["1;z"])", "row 1, column x: \"z\" is not a number"},
          {Raw("value_dim: 2"), utf8(), R"(["1;2"])", "has 1 values where value_dim is 2"},
          {Raw("value_dim: 2"), list(list(float32())), "[[[1, 2, 3]]]", "has 3 values where value_dim is 2"},
      });
}

constexpr const char* kGroup = R"(
  feature_configs { sequence_feature { sequence_name: 'click' sequence_length: 3 sequence_delim: '|'
    features { id_feature { feature_name: 'item' expression: 'item:iid' embedding_dim: 4 hash_bucket_size: 100 } }
    features { raw_feature { feature_name: 'price' expression: 'item:cost' } }
    features { raw_feature { feature_name: 'vector' expression: 'item:vec' value_dim: 2 separator: ',' } } } } )";

TEST(GroupedSequences, ReadTheColumnsOfTheirSequence) {
  const data::Batch batch = RunConfig(Mode("FG_DAG") + kGroup + Id("hash_bucket_size: 100"),
                                      {{"click__iid", utf8(), R"(["abc|efg|hij|abc", ""])"},
                                       {"click__cost", utf8(), R"(["1|2|3|4", ""])"},
                                       {"click__vec", utf8(), R"(["1,2|3,4", ""])"},
                                       {"x", utf8(), R"(["xyz", ""])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(33, 44, 66, 26, 13, 26));
  EXPECT_THAT(batch.sparse.offsets, ElementsAre(0, 3, 4, 5, 6));
  ASSERT_EQ(batch.dense_sequences.size(), 2u);
  EXPECT_THAT(batch.dense_sequences[0].values, ElementsAre(1, 2, 3, 0));
  EXPECT_THAT(batch.dense_sequences[0].offsets, ElementsAre(0, 3, 4));
  EXPECT_THAT(batch.dense_sequences[1].values, ElementsAre(1, 2, 3, 4, 0, 0));
  EXPECT_THAT(batch.dense_sequences[1].offsets, ElementsAre(0, 2, 3));
}

TEST(GroupedSequences, AreNamedAfterTheirSequenceInMessages) {
  const auto message = [](const char* mode, const Column& column) {
    return MessageOf([&] {
      RunConfig(Mode(mode) +
                    "feature_configs { sequence_feature { sequence_name: 'click' features { id_feature { "
                    "feature_name: 'item' expression: 'item:iid' embedding_dim: 4 num_buckets: 9 } } } }",
                {column});
    });
  };
  EXPECT_THAT(message("FG_NONE", {"click__item", utf8(), "[\"1;x\"]"}),
              HasSubstr("row 1, column click__item: \"x\" is not an integer (feature click__item)"));
  EXPECT_THAT(message("FG_DAG", {"click__iid", utf8(), "[\"1;x\"]"}),
              HasSubstr("row 1, column click__iid: \"x\" is not an integer (feature click__item)"));
  EXPECT_THAT(message("FG_DAG", {"iid", utf8(), "[\"1\"]"}), HasSubstr("column click__iid is missing"));
}

// Slices of sliced arrays: every offset counts, of the lists in lists too.
TEST(SequenceValues, SlicesAreReadWhereTheyBegin) {
  const auto config =
      ParseConfig(Id("num_buckets: 99") +
                  "feature_configs { sequence_id_feature { feature_name: 'g' embedding_dim: 4 num_buckets: 99 } }"
                  "feature_configs { id_feature { feature_name: 'p' embedding_dim: 4 num_buckets: 99 } }"
                  "feature_configs { sequence_raw_feature { feature_name: 'h' value_dim: 2 } }"
                  "feature_configs { sequence_raw_feature { feature_name: 's' } }");
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto all = MakeRows({{"f", list(int64()), "[[10], [11, 12], [], [14, 15, 16], [17]]"},
                             {"g", list(list(int64())), "[[[20]], [[21], [22]], null, [[24]], [[25], [26]]]"},
                             {"p", int64(), "[1, 2, 3, 4, 5]"},
                             {"h", list(list(float32())), "[[[0, 0]], [[1, 2]], [], [[3, 4], [5, 6]], [[7, 8]]]"},
                             {"s", utf8(), R"(["0", "1;2", null, "3", "4;5"])"}});
  const auto tail = all->Slice(1);
  const auto file = std::make_shared<const std::string>("part.parquet");
  const std::vector<data::RowSlice> slices = {{tail, 2, 2, file, 4, nullptr, 0}, {all, 1, 2, file, 2, nullptr, 0}};
  data::Batch batch;
  FeatureProgram(set, config, *all->schema()).Run(slices, batch);
  EXPECT_EQ(batch.rows, 4);
  EXPECT_THAT(batch.sparse.values, ElementsAre(14, 15, 16, 17, 11, 12, /*g*/ 24, 25, 26, 21, 22, /*p*/ 4, 5, 2, 3));
  EXPECT_THAT(Lengths(batch.sparse), ElementsAre(3, 1, 2, 0, 1, 2, 2, 0, 1, 1, 1, 1));
  ASSERT_EQ(batch.dense_sequences.size(), 2u);
  EXPECT_THAT(batch.dense_sequences[0].values, ElementsAre(3, 4, 5, 6, 7, 8, 1, 2));
  EXPECT_THAT(batch.dense_sequences[0].offsets, ElementsAre(0, 2, 3, 4, 4));
  EXPECT_THAT(batch.dense_sequences[1].values, ElementsAre(3, 4, 5, 1, 2));
  EXPECT_THAT(batch.dense_sequences[1].offsets, ElementsAre(0, 1, 3, 5, 5));
}

// golden/zoo/README.md, semantics 2.
TEST(SequenceValues, WeighOneBesideWeightedFeatures) {
  const data::Batch batch = RunConfig(
      Id("num_buckets: 99") +
          "feature_configs { id_feature { feature_name: 'w' embedding_dim: 4 num_buckets: 9 weighted: true } }",
      {{"f", list(int64()), "[[1, 2], []]"}, {"w", utf8(), R"(["3:0.5", "4:2"])"}});
  EXPECT_THAT(batch.sparse.values, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(batch.sparse.weights, ElementsAre(1, 1, 0.5f, 2));
}

TEST(SequenceValues, ABatchIsReusable) {
  const auto config = ParseConfig(Raw(""));
  const FeatureSet set = FeatureSet::FromConfig(config);
  const auto rows = MakeRows({{"f", list(float32()), "[[1, 2], [3]]"}});
  const FeatureProgram program(set, config, *rows->schema());
  data::Batch batch;
  program.Run(rows, batch);
  const float* values = batch.dense_sequences[0].values.data();
  program.Run(rows, batch);
  EXPECT_THAT(batch.dense_sequences[0].values, ElementsAre(1, 2, 3));
  EXPECT_THAT(batch.dense_sequences[0].offsets, ElementsAre(0, 2, 3));
  EXPECT_EQ(batch.dense_sequences[0].values.data(), values) << "the second run allocates nothing";
}

}  // namespace
}  // namespace anneal::features
