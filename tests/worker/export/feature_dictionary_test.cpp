#include "worker/export/feature_dictionary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/worker/features/feature_case.h"

namespace anneal::exporting {
namespace {

/// Dtype, shape and values of an entry.
void ExpectEntry(const c10::Dict<std::string, at::Tensor>& dictionary, const std::string& name,
                 const at::Tensor& expected) {
  ASSERT_TRUE(dictionary.contains(name)) << name;
  const at::Tensor tensor = dictionary.at(name);
  EXPECT_EQ(tensor.scalar_type(), expected.scalar_type()) << name;
  EXPECT_EQ(tensor.sizes(), expected.sizes()) << name;
  EXPECT_TRUE(at::equal(tensor, expected)) << name << "\n" << tensor;
}

// parity/features.md 9; dtypes as in golden/zoo/multi_tower_din/export/default/io.json.
TEST(FeatureDictionary, HoldsEveryKindOfFeature) {
  const auto config = features::ParseConfig(R"(
    feature_configs { id_feature { feature_name: "id" embedding_dim: 4 num_buckets: 9 } }
    feature_configs { raw_feature { feature_name: "number" } }
    feature_configs { sequence_feature { sequence_name: "click"
      features { id_feature { feature_name: "id" embedding_dim: 4 num_buckets: 9 } }
      features { raw_feature { feature_name: "price" } }
      features { raw_feature { feature_name: "vector" value_dim: 2 } } } })");
  const auto set = features::FeatureSet::FromConfig(config);
  const auto rows = features::MakeRows({{"id", arrow::int64(), "[1, 2, 3]"},
                                        {"number", arrow::float32(), "[0.5, 1.5, 2.5]"},
                                        {"click__id", arrow::list(arrow::int64()), "[[4, 5], [], [6]]"},
                                        {"click__price", arrow::utf8(), R"(["10;11", "", "12"])"},
                                        {"click__vector", arrow::utf8(), R"([null, "", "7\u00038"])"}});
  data::Batch batch;
  features::FeatureProgram(set, config, *rows->schema()).Run(rows, batch);
  const auto dictionary = FeatureDictionary(batch, set);
  EXPECT_EQ(dictionary.size(), 9u);
  const auto lengths = [](std::vector<int64_t> values, at::ScalarType type) { return at::tensor(values).to(type); };
  ExpectEntry(dictionary, "id.values", at::tensor(std::vector<int64_t>{1, 2, 3}));
  ExpectEntry(dictionary, "id.lengths", lengths({1, 1, 1}, at::kLong));
  ExpectEntry(dictionary, "number.values", at::tensor(std::vector<float>{0.5, 1.5, 2.5}).view({3, 1}));
  ExpectEntry(dictionary, "click__id.values", at::tensor(std::vector<int64_t>{4, 5, 6}));
  ExpectEntry(dictionary, "click__id.lengths", lengths({2, 0, 1}, at::kLong));
  ExpectEntry(dictionary, "click__price.values", at::tensor(std::vector<float>{10, 11, 12}).view({3, 1}));
  ExpectEntry(dictionary, "click__price.lengths", lengths({2, 0, 1}, at::kInt));
  ExpectEntry(dictionary, "click__vector.values", at::tensor(std::vector<float>{7, 8}).view({1, 2}));
  ExpectEntry(dictionary, "click__vector.lengths", lengths({0, 0, 1}, at::kInt));
}

}  // namespace
}  // namespace anneal::exporting
