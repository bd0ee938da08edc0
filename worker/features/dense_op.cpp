#include "worker/features/dense_op.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <limits>
#include <type_traits>

#include "worker/config/error.h"

namespace anneal::features {
namespace {

using data::RowSlice;

/// The rows of one slice. `Cells` is the type of a cell, or of a list's element.
class SliceReader {
 public:
  SliceReader(const DenseOp& op, const RowSlice& slice, int64_t& row, float* out, int64_t width)
      : value_(op.value), slice_(slice), row_(row), out_(out + op.dense_column), width_(width) {}

  void Missing(bool number) const {
    if (!value_.defaults.empty()) {
      value_.WriteDefaults(At());
    } else if (number) {
      *At() = std::numeric_limits<float>::quiet_NaN();
    } else {
      throw Refusal{"is missing and the feature has no fg_encoded_default_value"};
    }
  }

  void AllMissing() const {
    for (row_ = 0; row_ < slice_.count; ++row_) Missing(false);
  }

  template <typename Cells>
  void ReadCells(const arrow::ArrayData& column, const Cells& cells) const {
    const Validity valid(column);
    for (row_ = 0; row_ < slice_.count; ++row_) {
      const int64_t i = slice_.begin + row_;
      if constexpr (std::is_same_v<typename Cells::Value, std::string_view>) {
        if (valid[i] && !cells[i].empty()) {
          value_.Read(cells[i], At());
        } else {
          Missing(false);
        }
      } else if (valid[i]) {
        *At() = value_.normalizer(static_cast<float>(cells[i]));
      } else {
        Missing(true);
      }
    }
  }

  template <typename Cells>
  void ReadLists(const arrow::ArrayData& column, const Cells& numbers) const {
    const Lists lists(column);
    const Validity valid(*column.child_data[0]);
    for (row_ = 0; row_ < slice_.count; ++row_) {
      const CellRange range = lists[slice_.begin + row_];
      if (range.size() == 0) {
        Missing(false);
      } else {
        value_.ReadList(numbers, valid, range, At());
      }
    }
  }

 private:
  float* At() const { return out_ + row_ * width_; }

  const DenseValue& value_;
  const RowSlice& slice_;
  int64_t& row_;  ///< being read, for messages
  float* out_;
  int64_t width_;
};

}  // namespace

void DenseOp::CheckType(const arrow::DataType& type) const {
  const bool list = type.id() == arrow::Type::LIST;
  if (!IsNumberOrText(list ? *type.field(0)->type() : type)) {
    throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() +
                    ", only support str|int|float|list<str>|list<int>|list<float>");
  }
  if (!list && type.id() != arrow::Type::STRING && value.dim != 1) {
    throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() +
                    ", one value per row, where value_dim is " + std::to_string(value.dim));
  }
}

void DenseOp::Run(const RowSlice& slice, float* out, int64_t width) const {
  int64_t row = 0;
  const SliceReader reader(*this, slice, row, out, width);
  try {
    if (column_index < 0) return reader.AllMissing();
    const arrow::ArrayData& cells = *slice.rows->column_data(column_index);
    if (cells.type->id() == arrow::Type::LIST) {
      VisitCells(*cells.child_data[0], [&](const auto& numbers) { reader.ReadLists(cells, numbers); });
    } else {
      VisitCells(cells, [&](const auto& one) { reader.ReadCells(cells, one); });
    }
  } catch (const Refusal& refusal) {
    ThrowBadValue(slice, row, column, feature, refusal.what);
  }
}

}  // namespace anneal::features
