// One dense sequence feature, compiled: column in, jagged [elements, value_dim] float32 out.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/features/dense_value.h"

namespace arrow {
class DataType;
}

namespace anneal::features {

/// Reads a column of string, int32, int64, float or double (one element), of lists of these, or of lists of lists. The
/// elements of a string stand between `element_separator`. A null, an empty string and an empty list are missing: one
/// element with the defaults, or none where there are no defaults.
class DenseSequenceOp {
 public:
  std::string feature, column;  ///< for messages
  int column_index = -1;        ///< in the record batches; -1: every row is missing
  DenseValue value;             ///< an element
  std::string element_separator;
  int64_t most_elements = std::numeric_limits<int64_t>::max();  ///< kept of a row, the first ones
  bool skip_empty = true;  ///< an empty or null element is missing, which gives the defaults; otherwise it is an error

  /// Throws DataError when the column's type cannot be read as this feature.
  void CheckType(const arrow::DataType& type) const;

  /// Appends the elements of the slice's rows to `values` and writes the `slice.count` end offsets, in elements, to
  /// `ends`. Throws DataError naming file, row, column and text.
  void Run(const data::RowSlice& slice, data::Buffer<float>& values, int64_t* ends) const;
};

}  // namespace anneal::features
