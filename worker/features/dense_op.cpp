#include "worker/features/dense_op.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "worker/config/error.h"
#include "worker/features/arrow_column.h"
#include "worker/features/bad_value.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

using data::RowSlice;

/// Writes the components of one row; counts those that did not fit.
class RowWriter {
 public:
  RowWriter(const DenseOp& op, float* out) : op_(op), out_(out) {}

  void Put(float value) {
    if (count_ < op_.value_dim) out_[count_] = op_.normalizer(value);
    ++count_;
  }
  bool full() const { return op_.first_only && count_ == op_.value_dim; }
  int64_t count() const { return count_; }

 private:
  const DenseOp& op_;
  float* out_;
  int64_t count_ = 0;
};

/// The rows of one slice. `Cells` is the type of a cell, or of a list's element.
class SliceReader {
 public:
  SliceReader(const DenseOp& op, const RowSlice& slice, float* out, int64_t width)
      : op_(op), slice_(slice), out_(out + op.dense_column), width_(width) {}

  void Missing(int64_t row, bool number) const {
    float* out = out_ + row * width_;
    if (!op_.default_values.empty()) {
      std::copy(op_.default_values.begin(), op_.default_values.end(), out);
    } else if (number) {
      *out = std::numeric_limits<float>::quiet_NaN();
    } else {
      Fail(row, "is missing and the feature has no fg_encoded_default_value");
    }
  }

  template <typename Cells>
  void ReadCells(const arrow::ArrayData& column, const Cells& cells) const {
    const Validity valid(column);
    constexpr bool kNumber = !std::is_same_v<typename Cells::Value, std::string_view>;
    for (int64_t row = 0; row < slice_.count; ++row) {
      const int64_t i = slice_.begin + row;
      if (!valid[i]) {
        Missing(row, kNumber);
      } else if constexpr (kNumber) {
        out_[row * width_] = op_.normalizer(static_cast<float>(cells[i]));
      } else {
        ReadText(row, cells[i]);
      }
    }
  }

  template <typename Cells>
  void ReadLists(const arrow::ArrayData& column, const Cells& elements) const {
    const Validity valid(column), valid_element(*column.child_data[0]);
    const int32_t* offsets = column.GetValues<int32_t>(1);
    for (int64_t row = 0; row < slice_.count; ++row) {
      const int64_t i = slice_.begin + row;
      if (!valid[i] || offsets[i] == offsets[i + 1]) {
        Missing(row, false);
        continue;
      }
      RowWriter writer(op_, out_ + row * width_);
      for (int32_t at = offsets[i]; at < offsets[i + 1] && !writer.full(); ++at) {
        if (!valid_element[at]) Fail(row, "has a null in the list");
        if constexpr (std::is_same_v<typename Cells::Value, std::string_view>) {
          writer.Put(Parse(row, elements[at]));
        } else {
          writer.Put(static_cast<float>(elements[at]));
        }
      }
      CheckCount(row, writer.count());
    }
  }

 private:
  void ReadText(int64_t row, std::string_view text) const {
    if (text.empty()) return Missing(row, false);
    RowWriter writer(op_, out_ + row * width_);
    SplitText(text, op_.separator, [&](std::string_view part) {
      writer.Put(Parse(row, part));
      return !writer.full();
    });
    CheckCount(row, writer.count());
  }

  float Parse(int64_t row, std::string_view text) const {
    float value = 0;
    if (!ParseNumber(text, &value)) Fail(row, Shown(text) + " is not a number");
    return value;
  }

  void CheckCount(int64_t row, int64_t count) const {
    if (count != op_.value_dim) {
      Fail(row, "has " + std::to_string(count) + " values where value_dim is " + std::to_string(op_.value_dim));
    }
  }

  [[noreturn]] void Fail(int64_t row, const std::string& what) const {
    ThrowBadValue(slice_, row, op_.column, op_.feature, what);
  }

  const DenseOp& op_;
  const RowSlice& slice_;
  float* out_;
  int64_t width_;
};

bool IsCell(const arrow::DataType& type) {
  switch (type.id()) {
    case arrow::Type::STRING:
    case arrow::Type::INT32:
    case arrow::Type::INT64:
    case arrow::Type::FLOAT:
    case arrow::Type::DOUBLE:
      return true;
    default:
      return false;
  }
}

}  // namespace

void DenseOp::CheckType(const arrow::DataType& type) const {
  const bool list = type.id() == arrow::Type::LIST;
  if (!IsCell(list ? *type.field(0)->type() : type)) {
    throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() +
                    ", only support str|int|float|list<str>|list<int>|list<float>");
  }
  if (!list && type.id() != arrow::Type::STRING && value_dim != 1) {
    throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() +
                    ", one value per row, where value_dim is " + std::to_string(value_dim));
  }
}

void DenseOp::SetDefault(const std::string& text, bool normalize) {
  default_values.clear();
  SplitText(text, separator, [&](std::string_view part) {
    float value = 0;
    if (!ParseNumber(part, &value)) {
      throw ConfigError("feature " + feature + ": default value " + Shown(text) + " is not a number");
    }
    default_values.push_back(normalize ? normalizer(value) : value);
    return true;
  });
  if (default_values.size() == 1) default_values.resize(value_dim, default_values[0]);
  if (static_cast<int64_t>(default_values.size()) != value_dim) {
    throw ConfigError("feature " + feature + ": default value " + Shown(text) + " has " +
                      std::to_string(default_values.size()) + " values where value_dim is " +
                      std::to_string(value_dim));
  }
}

void DenseOp::Run(const RowSlice& slice, float* out, int64_t width) const {
  const SliceReader reader(*this, slice, out, width);
  if (column_index < 0) {
    for (int64_t row = 0; row < slice.count; ++row) reader.Missing(row, false);
    return;
  }
  const arrow::ArrayData& column = *slice.rows->column_data(column_index);
  if (column.type->id() == arrow::Type::LIST) {
    VisitCells(*column.child_data[0], [&](const auto& elements) { reader.ReadLists(column, elements); });
  } else {
    VisitCells(column, [&](const auto& cells) { reader.ReadCells(column, cells); });
  }
}

}  // namespace anneal::features
