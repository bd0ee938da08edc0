// One dense feature, compiled: column in, [rows, value_dim] float32 out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/data/row_slice.h"
#include "worker/features/normalizer.h"

namespace arrow {
class DataType;
}

namespace anneal::features {

/// Reads a column of string, int32, int64, float or double, or of lists of these. A null, an empty string and an empty
/// list are missing and give the default values, which the normalizer does not touch.
class DenseOp {
 public:
  std::string feature, column;  ///< for messages
  int column_index = -1;        ///< in the record batches; -1: every row is missing (a `const:` literal)
  int64_t value_dim = 1;
  int64_t dense_column = 0;        ///< first column of the output
  std::string separator = "\x1d";  ///< of several values in one string
  bool first_only = false;         ///< value_dim 1 keeps the first of several values; otherwise more is an error
  Normalizer normalizer;
  std::vector<float> default_values;  ///< [value_dim]; empty: a missing number is NaN, other missing cells an error

  /// Throws DataError when the column's type cannot be read as this feature.
  void CheckType(const arrow::DataType& type) const;

  /// Sets default_values: `text` is one number for all components, or value_dim of them; normalized only when
  /// `normalize`. Throws ConfigError.
  void SetDefault(const std::string& text, bool normalize = false);

  /// Writes row i of the slice to out[i * width + dense_column ...]. Throws DataError naming file, row, column, text.
  void Run(const data::RowSlice& slice, float* out, int64_t width) const;
};

}  // namespace anneal::features
