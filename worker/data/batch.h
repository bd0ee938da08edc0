// One batch of rows as the model takes it: ids as a keyed jagged tensor, dense features and labels as matrices.
// No LibTorch here: reader threads fill these buffers, the trainer wraps them without a copy.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace arrow {
class RecordBatch;
}

namespace anneal::data {

/// Storage of a batch. One alias, so that a CUDA build can make it pinned memory.
template <typename T>
using Buffer = std::vector<T>;

/// Ids of all sparse features, feature-major (torchrec's KeyedJaggedTensor): feature f (index in
/// features::FeatureSet::sparse()), row b holds values[offsets[f*rows+b] .. offsets[f*rows+b+1]).
/// A sequence feature has one id an element: row b's ids are its sequence.
struct KeyedJagged {
  Buffer<int64_t> values;   ///< [nnz]
  Buffer<int64_t> offsets;  ///< [features*rows + 1], starts at 0, non-decreasing
  Buffer<float> weights;    ///< [nnz], or empty when no feature of the set is weighted
};

/// Values of one dense sequence feature (index in features::FeatureSet::dense_sequences()): row b holds the elements
/// [offsets[b], offsets[b+1]), each of the feature's value_dim numbers.
struct DenseSequence {
  Buffer<float> values;     ///< [elements, value_dim] row-major
  Buffer<int64_t> offsets;  ///< [rows + 1], starts at 0, non-decreasing
};

/// One label column, in the order of data_config.label_fields. Exactly one of `floats` and `ints` is filled, unless
/// there is no label at all: [rows - negatives], or of a column of lists all their values, one list after the other.
struct Label {
  Buffer<float> floats;     ///< floating columns
  Buffer<int64_t> ints;     ///< integer columns
  Buffer<int64_t> offsets;  ///< of lists [rows + 1]: row b has the values [offsets[b], offsets[b+1]); else empty
};

struct Batch {
  int64_t rows = 0;
  int64_t read = 0;       ///< of `rows`, the first ones: those of the input, before a sampler's
  int64_t negatives = 0;  ///< of `rows`, the last ones: sampled items, with item features only and no label
  /// Of the hard negatives, the last ones of `negatives` (parity/data.md 5.2), in their order: whose row of the batch
  /// each is, and its running number within that row.
  std::vector<std::pair<int32_t, int32_t>> hard_negatives;
  KeyedJagged sparse;
  Buffer<float> dense;  ///< [rows, FeatureSet::dense_width()] row-major: all dense features side by side
  std::vector<DenseSequence> dense_sequences;  ///< one per dense sequence feature
  std::vector<Label> labels;                   ///< empty in predict and export
  std::vector<Buffer<float>> sample_weights;   ///< one [rows - negatives] per data_config.sample_weight_fields
  /// Highest consumed row per source ("<input_path>:<slice start>"), what dataloader_state.json stores
  /// (parity/data.md 2.2). Empty for sources without a position.
  std::map<std::string, int64_t> position;
  /// Newest event of the rows in Unix seconds, see StreamOptions::event_times; -1: unknown.
  int64_t data_timestamp = -1;
  /// The columns asked for by StreamOptions::reserved_columns, `rows - negatives` long (predict); null otherwise.
  std::shared_ptr<arrow::RecordBatch> reserved;
};

}  // namespace anneal::data
