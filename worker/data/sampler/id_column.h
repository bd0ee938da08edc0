// The ids of users and items in the data, as samplers know them.
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/data/row_slice.h"

namespace anneal::data {

/// A column of ids, as SamplingRequest has them. A null is 0, as in the reference; of a text the empty one.
class IdColumn {
 public:
  /// The column of `schema`, int32, int64 or string; with a `delimiter` a text may hold several ids. Throws DataError.
  IdColumn(const std::string& name, std::string delimiter, const arrow::Schema& schema);

  const std::string& name() const { return name_; }

  /// The ids of all rows in order. Throws DataError naming file, row, column and text of what is no id.
  std::vector<int64_t> Read(std::span<const RowSlice> slices) const;

 private:
  std::string name_, delimiter_;
  int index_;
  bool text_ids_;
};

}  // namespace anneal::data
