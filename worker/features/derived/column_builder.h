// Builds the column that a derivation gives, in buffers that Arrow then takes over.
#pragma once

#include <arrow/array/data.h>
#include <arrow/buffer.h>
#include <arrow/type.h>
#include <arrow/type_traits.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/features/bad_value.h"

namespace anneal::features {

/// list<T>, a cell a row, or for a sequence list<list<T>>, a cell an element. A cell without values is missing, as is a
/// sequence without elements: the feature's default stands for it.
inline std::shared_ptr<arrow::DataType> DerivedType(std::shared_ptr<arrow::DataType> value, bool sequence) {
  auto type = arrow::list(std::move(value));
  return sequence ? arrow::list(type) : type;
}

/// Cells, and what ends them. Values are the derived class's.
class ColumnBuilder {
 public:
  explicit ColumnBuilder(bool sequence) : sequence_(sequence) {}

  void EndRow() {
    if (sequence_) rows_.push_back(static_cast<int32_t>(cells_.size()) - 1);
  }

 protected:
  void EndCellAt(size_t values) { cells_.push_back(Offset(values)); }

  static int32_t Offset(size_t at) {
    if (at > static_cast<size_t>(std::numeric_limits<int32_t>::max())) throw Refusal{"makes more than 2 GiB of values"};
    return static_cast<int32_t>(at);
  }

  std::shared_ptr<arrow::ArrayData> Wrap(std::shared_ptr<arrow::ArrayData> values) {
    auto cells = List(std::move(values), std::move(cells_));
    return sequence_ ? List(std::move(cells), std::move(rows_)) : cells;
  }

 private:
  static std::shared_ptr<arrow::ArrayData> List(std::shared_ptr<arrow::ArrayData> child, std::vector<int32_t> offsets) {
    const auto length = static_cast<int64_t>(offsets.size()) - 1;
    auto type = arrow::list(child->type);
    return arrow::ArrayData::Make(std::move(type), length, {nullptr, arrow::Buffer::FromVector(std::move(offsets))},
                                  {std::move(child)}, 0);
  }

  const bool sequence_;
  std::vector<int32_t> rows_ = {0};   ///< of a sequence: first cell of each row
  std::vector<int32_t> cells_ = {0};  ///< first value of each cell
};

class TextColumn : public ColumnBuilder {
 public:
  using ColumnBuilder::ColumnBuilder;

  /// Appends to the value that EndValue ends.
  void Write(std::string_view text) { bytes_ += text; }
  void EndValue() { ends_.push_back(Offset(bytes_.size())); }
  void Put(std::string_view text) {
    Write(text);
    EndValue();
  }
  void EndCell() { EndCellAt(ends_.size() - 1); }

  std::shared_ptr<arrow::ArrayData> Finish() {
    const auto length = static_cast<int64_t>(ends_.size()) - 1;
    return Wrap(arrow::ArrayData::Make(
        arrow::utf8(), length,
        {nullptr, arrow::Buffer::FromVector(std::move(ends_)), arrow::Buffer::FromString(std::move(bytes_))}, 0));
  }

 private:
  std::string bytes_;
  std::vector<int32_t> ends_ = {0};
};

/// T: int64_t, float.
template <typename T>
class NumberColumn : public ColumnBuilder {
 public:
  using ColumnBuilder::ColumnBuilder;

  void Put(T number) { numbers_.push_back(number); }
  void EndCell() { EndCellAt(numbers_.size()); }

  std::shared_ptr<arrow::ArrayData> Finish() {
    const auto length = static_cast<int64_t>(numbers_.size());
    return Wrap(arrow::ArrayData::Make(arrow::CTypeTraits<T>::type_singleton(), length,
                                       {nullptr, arrow::Buffer::FromVector(std::move(numbers_))}, 0));
  }

 private:
  std::vector<T> numbers_;
};

}  // namespace anneal::features
