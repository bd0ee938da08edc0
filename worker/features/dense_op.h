// One dense feature, compiled: column in, [rows, value_dim] float32 out.
#pragma once

#include <cstdint>
#include <string>

#include "worker/data/row_slice.h"
#include "worker/features/dense_value.h"

namespace arrow {
class DataType;
}

namespace anneal::features {

/// Reads a column of string, int32, int64, float or double, or of lists of these. A null, an empty string and an empty
/// list are missing and give the defaults; without these a missing number is NaN and any other missing cell an error.
class DenseOp {
 public:
  std::string feature, column;  ///< for messages
  int column_index = -1;        ///< in the record batches; -1: every row is missing (a `const:` literal)
  DenseValue value;
  int64_t dense_column = 0;  ///< first column of the output

  /// Throws DataError when the column's type cannot be read as this feature.
  void CheckType(const arrow::DataType& type) const;

  /// Writes row i of the slice to out[i * width + dense_column ...]. Throws DataError naming file, row, column, text.
  void Run(const data::RowSlice& slice, float* out, int64_t width) const;
};

}  // namespace anneal::features
