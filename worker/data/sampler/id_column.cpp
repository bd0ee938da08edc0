#include "worker/data/sampler/id_column.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include "worker/config/error.h"
#include "worker/data/sampler/table_file.h"
#include "worker/features/arrow_column.h"
#include "worker/features/bad_value.h"
#include "worker/features/number_text.h"

namespace anneal::data {

IdColumn::IdColumn(const std::string& name, std::string delimiter, const arrow::Schema& schema)
    : name_(name), delimiter_(std::move(delimiter)), index_(schema.GetFieldIndex(name)), text_ids_(TextNodeIds()) {
  if (index_ < 0) throw DataError("column " + name + " is missing");
  const arrow::DataType& type = *schema.field(index_)->type();
  if (type.id() != arrow::Type::INT32 && type.id() != arrow::Type::INT64 && type.id() != arrow::Type::STRING) {
    throw DataError("column " + name + " has dtype " + type.ToString() + ": ids of a sampler are int or string");
  }
}

std::vector<int64_t> IdColumn::Read(std::span<const RowSlice> slices) const {
  std::vector<int64_t> ids;
  for (const RowSlice& slice : slices) {
    const arrow::ArrayData& column = *slice.rows->column_data(index_);
    const features::Validity valid(column);
    const auto read = [&](std::string_view text, int64_t row) {
      int64_t& id = ids.emplace_back();
      if (!ReadNodeId(text, text_ids_, &id)) {
        throw DataError(Where(slice, row) + ", column " + name_ + ": " + features::Shown(text) + " is not an int64");
      }
    };
    features::VisitCells(column, [&](const auto& cells) {
      using Cell = typename std::decay_t<decltype(cells)>::Value;
      for (int64_t row = 0; row < slice.count; ++row) {
        const int64_t at = slice.begin + row;
        if constexpr (std::is_same_v<Cell, std::string_view>) {
          if (!valid[at] && !text_ids_) {
            ids.push_back(0);
          } else if (delimiter_.empty()) {
            read(valid[at] ? cells[at] : "", row);
          } else {
            features::SplitText(valid[at] ? cells[at] : "", delimiter_, [&](std::string_view id) {
              read(id, row);
              return true;
            });
          }
        } else {
          const auto id = valid[at] ? static_cast<int64_t>(cells[at]) : 0;
          text_ids_ ? read(valid[at] ? std::to_string(id) : "", row) : ids.push_back(id);
        }
      }
    });
  }
  return ids;
}

}  // namespace anneal::data
