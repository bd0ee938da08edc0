#include "worker/features/dense_sequence_op.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <type_traits>

#include "worker/config/error.h"
#include "worker/features/number_text.h"

namespace anneal::features {
namespace {

using data::Buffer;
using data::RowSlice;

/// Appends the elements of one row after the other.
class ElementWriter {
 public:
  ElementWriter(const DenseSequenceOp& op, Buffer<float>& values) : op_(op), values_(values) {}

  void MissingRow() {
    if (!op_.value.defaults.empty()) op_.value.WriteDefaults(Append());
  }

  void MissingElement(const char* what) {
    if (!op_.skip_empty) throw Refusal{what};
    op_.value.WriteDefaults(Append());
  }

  void PutElement(std::string_view text) {
    if (text.empty()) return MissingElement("has an empty element");
    op_.value.Read(text, Append());
  }
  template <typename Number>
  void PutElement(Number number) {
    *Append() = op_.value.normalizer(static_cast<float>(number));
  }

  /// The cell of a row.
  void PutCell(std::string_view text) {
    if (text.empty()) return MissingRow();
    int64_t elements = 0;
    SplitText(text, op_.element_separator, [&](std::string_view element) {
      PutElement(element);
      return ++elements < op_.most_elements;
    });
  }
  template <typename Number>
  void PutCell(Number number) {
    PutElement(number);
  }

  template <typename Cells>
  void PutElements(const Cells& cells, const Validity& valid, CellRange range) {
    for (int64_t at = range.begin; at < range.end; ++at) {
      if (valid[at]) {
        PutElement(cells[at]);
      } else {
        MissingElement("has a null in the list");
      }
    }
  }

  template <typename Cells>
  void PutLists(const Lists& lists, const Cells& numbers, const Validity& valid, CellRange range) {
    for (int64_t at = range.begin; at < range.end; ++at) {
      if (lists[at].size() > 0) {
        op_.value.ReadList(numbers, valid, lists[at], Append());
      } else {
        MissingElement("has an empty element");
      }
    }
  }

  int64_t end() const { return static_cast<int64_t>(values_.size()) / op_.value.dim; }
  Buffer<float>& values() { return values_; }
  const DenseSequenceOp& op() const { return op_; }

 private:
  float* Append() {
    values_.resize(values_.size() + op_.value.dim);
    return values_.data() + values_.size() - op_.value.dim;
  }

  const DenseSequenceOp& op_;
  Buffer<float>& values_;
};

template <typename Cells>
void WriteCells(const arrow::ArrayData& column, const Cells& cells, const RowSlice& slice, int64_t& row,
                ElementWriter& writer, int64_t* ends) {
  const Validity valid(column);
  for (row = 0; row < slice.count; ++row) {
    const int64_t i = slice.begin + row;
    if (valid[i]) {
      writer.PutCell(cells[i]);
    } else {
      writer.MissingRow();
    }
    ends[row] = writer.end();
  }
}

/// A list per cell; put(range) appends its elements.
template <typename Put>
void WriteRanges(const arrow::ArrayData& column, const RowSlice& slice, int64_t& row, ElementWriter& writer,
                 int64_t* ends, Put&& put) {
  const Lists lists(column);
  for (row = 0; row < slice.count; ++row) {
    CellRange range = lists[slice.begin + row];
    if (range.size() == 0) {
      writer.MissingRow();
    } else {
      range.end = range.begin + std::min(range.size(), writer.op().most_elements);
      put(range);
    }
    ends[row] = writer.end();
  }
}

void WriteSlice(const arrow::ArrayData& column, const RowSlice& slice, int64_t& row, ElementWriter& writer,
                int64_t* ends) {
  if (column.type->id() != arrow::Type::LIST) {
    VisitCells(column, [&](const auto& cells) { WriteCells(column, cells, slice, row, writer, ends); });
    return;
  }
  const arrow::ArrayData& child = *column.child_data[0];
  if (child.type->id() != arrow::Type::LIST) {
    VisitCells(child, [&, valid = Validity(child)](const auto& cells) {
      WriteRanges(column, slice, row, writer, ends, [&](CellRange range) { writer.PutElements(cells, valid, range); });
    });
    return;
  }
  const arrow::ArrayData& numbers = *child.child_data[0];
  VisitCells(numbers, [&, lists = Lists(child), valid = Validity(numbers)](const auto& cells) {
    WriteRanges(column, slice, row, writer, ends,
                [&](CellRange range) { writer.PutLists(lists, cells, valid, range); });
  });
}

}  // namespace

void DenseSequenceOp::CheckType(const arrow::DataType& type) const {
  const auto fault = [&](const std::string& what) {
    throw DataError("feature " + feature + ": column " + column + " has dtype " + type.ToString() + ", " + what);
  };
  const bool list = type.id() == arrow::Type::LIST;
  const arrow::DataType& element = list ? *type.field(0)->type() : type;
  const bool nested = list && element.id() == arrow::Type::LIST;
  if (!IsNumberOrText(nested ? *element.field(0)->type() : element)) {
    fault("only support str|int|float and list or list<list> of these");
  }
  if (!nested && element.id() != arrow::Type::STRING && value.dim != 1) {
    fault("one number per element, where value_dim is " + std::to_string(value.dim));
  }
}

void DenseSequenceOp::Run(const RowSlice& slice, Buffer<float>& values, int64_t* ends) const {
  ElementWriter writer(*this, values);
  int64_t row = 0;
  try {
    if (column_index < 0) {
      for (row = 0; row < slice.count; ++row) {
        writer.MissingRow();
        ends[row] = writer.end();
      }
      return;
    }
    WriteSlice(*slice.rows->column_data(column_index), slice, row, writer, ends);
  } catch (const Refusal& refusal) {
    ThrowBadValue(slice, row, column, feature, refusal.what);
  }
}

}  // namespace anneal::features
