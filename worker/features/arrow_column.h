// Arrow arrays as flat pointers: what the inner loops of the feature program and the label reader run over.
#pragma once

#include <arrow/array/data.h>

#include <cstdint>
#include <string_view>

namespace anneal::features {

/// Which cells of a column are not null.
class Validity {
 public:
  explicit Validity(const arrow::ArrayData& column)
      : bits_(column.GetNullCount() == 0 || column.buffers[0] == nullptr ? nullptr : column.buffers[0]->data()),
        offset_(column.offset) {}

  bool all() const { return bits_ == nullptr; }
  bool operator[](int64_t i) const {
    const int64_t bit = offset_ + i;
    return bits_ == nullptr || ((bits_[bit >> 3] >> (bit & 7)) & 1);
  }

 private:
  const uint8_t* bits_;
  int64_t offset_;
};

/// Cells of an int32, int64, float or double column.
template <typename T>
class Numbers {
 public:
  using Value = T;
  explicit Numbers(const arrow::ArrayData& column) : data_(column.GetValues<T>(1)) {}
  T operator[](int64_t i) const { return data_[i]; }
  const T* data() const { return data_; }

 private:
  const T* data_;
};

/// Cells of a string column.
class Texts {
 public:
  using Value = std::string_view;
  explicit Texts(const arrow::ArrayData& column)
      : offsets_(column.GetValues<int32_t>(1)),
        bytes_(column.buffers[2] == nullptr ? "" : reinterpret_cast<const char*>(column.buffers[2]->data())) {}
  std::string_view operator[](int64_t i) const {
    return {bytes_ + offsets_[i], static_cast<size_t>(offsets_[i + 1] - offsets_[i])};
  }

 private:
  const int32_t* offsets_;
  const char* bytes_;
};

/// Cells [begin, end) of a list's values.
struct CellRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

/// Cells of a list or map column. A null is an empty list.
class Lists {
 public:
  explicit Lists(const arrow::ArrayData& column) : valid_(column), offsets_(column.GetValues<int32_t>(1)) {}
  CellRange operator[](int64_t i) const { return valid_[i] ? CellRange{offsets_[i], offsets_[i + 1]} : CellRange{}; }
  bool all_valid() const { return valid_.all(); }

 private:
  Validity valid_;
  const int32_t* offsets_;
};

/// Calls use(cells) with the column's cells as Texts or Numbers<T>. False for any other type.
template <typename Use>
bool VisitCells(const arrow::ArrayData& column, Use&& use) {
  switch (column.type->id()) {
    case arrow::Type::STRING:
      use(Texts(column));
      return true;
    case arrow::Type::INT32:
      use(Numbers<int32_t>(column));
      return true;
    case arrow::Type::INT64:
      use(Numbers<int64_t>(column));
      return true;
    case arrow::Type::FLOAT:
      use(Numbers<float>(column));
      return true;
    case arrow::Type::DOUBLE:
      use(Numbers<double>(column));
      return true;
    default:
      return false;
  }
}

}  // namespace anneal::features
