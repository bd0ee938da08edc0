// What is known of a matrix that holds the same rows again and again: of a batch's embeddings, where an id that is in a
// thousand rows of the batch has put the same 16 numbers into each.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace anneal::nn {

/// Of a matrix [B, in].
struct RepeatedRows {
  /// Columns [column, column + width), in which the B rows are `distinct` different ones, numbered from `first` on.
  struct Part {
    int64_t column, width, first, distinct;
  };
  std::vector<Part> parts;       ///< in the order of their columns; other columns are in no part
  std::vector<int32_t> of_row;   ///< [B, parts] the number of the distinct row that a row holds there
  std::vector<int32_t> holder;   ///< [distinct rows of all parts] the first of the rows that hold it
  std::vector<int32_t> begin;    ///< [distinct rows of all parts + 1] where its holders begin in `holders`
  std::vector<int32_t> holders;  ///< [B * parts] rows, ascending for each distinct row

  int64_t distinct() const { return static_cast<int64_t>(holder.size()); }
};

/// How the rows of some columns of a matrix repeat.
struct RepeatedColumns {
  int64_t column = 0, width = 0;
  const std::vector<int32_t>* of_row = nullptr;  ///< [B] distinct rows numbered by their first holder
  const std::vector<int32_t>* holder = nullptr;  ///< [distinct] ascending
};

/// Not for columns that are in the list twice. Of a batch that 32 bits cannot count nothing is known.
RepeatedRows JoinColumns(std::vector<RepeatedColumns> columns, int64_t rows);

/// Says of a tensor how to find out. A tensor made from this one by an operation other than detach
/// knows nothing.
void SetRepeatedRows(const at::Tensor& tensor, std::function<RepeatedRows()> find);
/// Found at the first call; null when nothing was said, or the tensor's numbers changed since. Lives as long as the
/// tensor.
const RepeatedRows* FindRepeatedRows(const at::Tensor& tensor);

}  // namespace anneal::nn
