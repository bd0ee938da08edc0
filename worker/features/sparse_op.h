// One sparse feature, compiled: column in, ids out.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/features/id_encoder.h"

namespace arrow {
class DataType;
}

namespace anneal::features {

/// Reads a column of string, int32, int64, float or double, of lists of these, or a map (keys = ids, items = weights).
/// A null, an empty string and an empty list are missing and give the default ids.
///
/// A sequence has elements: the parts of a string between `element_separator`, the items of a list, or the one number
/// of a cell. What a row is to a plain feature, an element is to a sequence: an item that is a string or a list itself
/// holds the values of its element. There are no maps of elements.
///
/// With skip_empty "a||b" has two values and an element without one is missing. Otherwise its empty part is a value,
/// and an element without one an error.
class SparseOp {
 public:
  static constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

  std::string feature, column;  ///< for messages
  int column_index = -1;        ///< in the record batches; -1: every row is missing (a `const:` literal)
  IdEncoder encoder;
  std::string separator = "\x1d";  ///< of several values in one string
  int64_t most = kAll;             ///< values kept of a row or an element, the first ones
  int64_t exactly = 0;             ///< when above 0: any other number of values is an error
  bool skip_empty = true;
  bool weighted = false;          ///< text values are "id:weight"
  bool weight_needed = false;     ///< a text value without a weight is an error; otherwise it weighs 1
  bool sequence = false;          ///< rows hold elements
  std::string element_separator;  ///< of a sequence: of the elements in one string
  int64_t most_elements = kAll;   ///< of a sequence: elements kept of a row, the first ones
  std::vector<int64_t> default_ids;
  std::vector<float> default_weights;  ///< as long as default_ids

  /// Throws DataError when the column's type cannot be read as this feature.
  void CheckType(const arrow::DataType& type) const;

  /// Sets default_ids from `text`, read like a cell but not normalized. Throws ConfigError.
  void SetDefault(const std::string& text);

  /// Appends the ids of the slice's rows to `out.values` (and their weights to `out.weights` when `weights`), and
  /// writes the `slice.count` end offsets to `ends`. Throws DataError naming file, row, column and text.
  void Run(const data::RowSlice& slice, bool weights, data::KeyedJagged& out, int64_t* ends) const;
};

}  // namespace anneal::features
