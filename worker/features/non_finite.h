// Dense values that are NaN or infinite. They go into the model as they are, as in the reference; whoever runs it is
// told of the first one of each feature.
#pragma once

#include <span>
#include <string>

#include "worker/data/batch.h"
#include "worker/data/row_slice.h"

namespace anneal::features {

/// Whether any of the values is NaN or infinite. Fast enough for every batch.
bool AnyNonFinite(std::span<const float> values);

/// Logs a warning, once per feature and process, that names file and row of the feature's first value that is NaN or
/// infinite. Row i of the slices, counted through, holds values[i * stride ... + dim), or those of the sequence.
void WarnOfNonFinite(const std::string& feature, std::span<const data::RowSlice> slices, const float* values,
                     int64_t dim, int64_t stride);
void WarnOfNonFinite(const std::string& feature, std::span<const data::RowSlice> slices,
                     const data::DenseSequence& sequence, int64_t dim);

}  // namespace anneal::features
