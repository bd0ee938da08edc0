#include "worker/export/feature_dictionary.h"

#include <ATen/ATen.h>

#include "worker/eval/trained_model.h"

namespace anneal::exporting {

c10::Dict<std::string, at::Tensor> FeatureDictionary(const data::Batch& batch, const features::FeatureSet& features) {
  c10::Dict<std::string, at::Tensor> dictionary;
  auto& sparse = const_cast<data::KeyedJagged&>(batch.sparse);
  for (const auto* feature : features.sparse()) {
    const int64_t* offsets = sparse.offsets.data() + feature->index * batch.rows;
    const int64_t first = offsets[0], count = offsets[batch.rows] - first;
    at::Tensor lengths = at::empty({batch.rows}, at::kLong);
    for (int64_t b = 0; b < batch.rows; ++b) lengths.mutable_data_ptr<int64_t>()[b] = offsets[b + 1] - offsets[b];
    dictionary.insert(feature->name + ".values", at::from_blob(sparse.values.data() + first, {count}, at::kLong));
    dictionary.insert(feature->name + ".lengths", lengths);
    if (features.weighted()) {
      dictionary.insert(feature->name + ".weights", at::from_blob(sparse.weights.data() + first, {count}, at::kFloat));
    }
  }
  const at::Tensor dense = eval::DenseTensor(batch, features.dense_width());
  for (const auto* feature : features.dense()) {
    dictionary.insert(feature->name + ".values",
                      dense.narrow(1, feature->dense_column, feature->value_dim).contiguous());
  }
  for (const auto* feature : features.dense_sequences()) {
    auto& sequence = const_cast<data::DenseSequence&>(batch.dense_sequences[feature->index]);
    at::Tensor lengths = at::empty({batch.rows}, at::kInt);
    for (int64_t b = 0; b < batch.rows; ++b) {
      lengths.mutable_data_ptr<int32_t>()[b] = static_cast<int32_t>(sequence.offsets[b + 1] - sequence.offsets[b]);
    }
    dictionary.insert(
        feature->name + ".values",
        at::from_blob(sequence.values.data(), {sequence.offsets[batch.rows], feature->value_dim}, at::kFloat));
    dictionary.insert(feature->name + ".lengths", lengths);
  }
  return dictionary;
}

}  // namespace anneal::exporting
