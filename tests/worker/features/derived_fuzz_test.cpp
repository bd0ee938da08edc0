// Random texts of the characters that mean something, in every kind of feature and as every type of column: each is
// read or refused with a DataError, and the same row alone gives what it gave among others.
#include <arrow/builder.h>

#include <random>

#include "tests/worker/features/derived_case.h"

namespace anneal::features {
namespace {

struct Kind {
  const char *name, *fields;
};

const Kind kKinds[] = {
    {"combo_feature", "expression: ['user:a', 'item:b'] hash_bucket_size: 100"},
    {"combine_feature", "expression: 'item:b' num_buckets: 7"},
    {"combine_feature", "expression: 'item:b' value_map { key: '1' value: 2 }"},
    {"lookup_feature", "map: 'user:a' key: 'item:b'"},
    {"lookup_feature", "map: 'user:a' key: 'item:b' value_dim: 2"},
    {"lookup_feature", "map: 'user:a' key: 'item:b' hash_bucket_size: 100 need_key: true value_dim: 1"},
    {"match_feature", "nested_map: 'user:a' pkey: 'item:b' skey: 'ALL'"},
    {"match_feature", "nested_map: 'user:a' pkey: 'ALL' skey: 'item:b' hash_bucket_size: 100 show_skey: true"},
    {"bool_mask_feature", "expression: ['item:b', 'item:a'] hash_bucket_size: 100 value_dim: 1"},
    {"expr_feature", "expression: 'isnan(a / b) ? 0 : a / b' variables: ['user:a', 'item:b'] fill_missing: 1"},
    {"expr_feature", "expression: 'len(a) + reduce_max(b)' variables: ['user:a', 'item:b'] boundaries: [0, 2]"},
    {"overlap_feature", "query: 'user:a' title: 'item:b' method: 'proximity_avg_dist'"},
    {"kv_dot_product", "query: 'user:a' document: 'item:b'"},
};

std::string RandomText(std::mt19937& random) {
  static const char* kParts[] = {":", ",", "|", "^", ";",    "\x1d", "a",   "1",    "0",
                                 "-", ".", "e", "_", "\x7f", "",     "1:1", "a:1,2"};
  std::string text;
  for (size_t n = random() % 12; n > 0; --n) text += kParts[random() % std::size(kParts)];
  return text;
}

std::shared_ptr<arrow::Array> RandomColumn(std::mt19937& random, int64_t rows, int shape) {
  auto texts = std::make_shared<arrow::StringBuilder>();
  const auto append = [&] {
    if (random() % 8 == 0) return texts->AppendNull().ok();
    return texts->Append(RandomText(random)).ok();
  };
  if (shape == 0) {
    for (int64_t i = 0; i < rows; ++i) EXPECT_TRUE(append());
    return texts->Finish().ValueOrDie();
  }
  arrow::ListBuilder lists(arrow::default_memory_pool(), texts);
  for (int64_t i = 0; i < rows; ++i) {
    EXPECT_TRUE(random() % 8 == 0 ? lists.AppendNull().ok() : lists.Append().ok());
    for (size_t n = random() % 4; n > 0; --n) EXPECT_TRUE(append());
  }
  return lists.Finish().ValueOrDie();
}

TEST(DerivedFuzz, TextsAreReadOrRefused) {
  std::mt19937 random(7);
  int read = 0, refused = 0;
  for (int round = 0; round < 3000; ++round) {
    const Kind& kind = kKinds[random() % std::size(kKinds)];
    const bool sequence = random() % 2;
    std::string fields = kind.fields;
    if (sequence && std::string(kind.name) == "bool_mask_feature") fields += " sequence_fields: ['a', 'b']";
    const auto config = ParseConfig(OneFeature((sequence ? "sequence_" : "") + std::string(kind.name), fields));
    const FeatureSet set = FeatureSet::FromConfig(config);
    const auto a = RandomColumn(random, 3, random() % 2), b = RandomColumn(random, 3, random() % 2);
    const auto rows = arrow::RecordBatch::Make(
        arrow::schema({arrow::field("a", a->type()), arrow::field("b", b->type())}), 3, {a, b});
    const FeatureProgram program(set, config, *rows->schema());
    data::Batch whole;
    try {
      program.Run(rows, whole);
      ++read;
    } catch (const DataError&) {
      ++refused;
      continue;
    }
    std::vector<data::RowSlice> slices(3);
    for (int i = 0; i < 3; ++i) slices[i] = {rows, i, 1};
    data::Batch parts;
    program.Run(slices, parts);
    EXPECT_EQ(parts.sparse.values, whole.sparse.values);
    EXPECT_EQ(parts.sparse.offsets, whole.sparse.offsets);
    EXPECT_EQ(parts.dense, whole.dense);
    ASSERT_EQ(parts.dense_sequences.size(), whole.dense_sequences.size());
    for (size_t i = 0; i < whole.dense_sequences.size(); ++i) {
      EXPECT_EQ(parts.dense_sequences[i].values, whole.dense_sequences[i].values);
    }
  }
  EXPECT_GT(read, 500);
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace anneal::features
