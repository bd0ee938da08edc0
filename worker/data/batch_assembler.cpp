#include "worker/data/batch_assembler.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "worker/config/error.h"
#include "worker/features/arrow_column.h"

namespace anneal::data {
namespace {

using features::CellRange;
using features::Lists;
using features::Numbers;
using features::Validity;

/// Appends the cells of a range, which have to be there: a label or weight has no default. `where` of the i-th cell.
template <typename From, typename To, typename WhereOf>
void AppendCells(const arrow::ArrayData& cells, CellRange range, const WhereOf& where, Buffer<To>* out) {
  const Validity valid(cells);
  for (int64_t at = range.begin; at < range.end && !valid.all(); ++at) {
    if (!valid[at]) throw DataError(where(at - range.begin) + ": is null");
  }
  const From *first = Numbers<From>(cells).data() + range.begin, *end = first + range.size();
  if constexpr (std::is_floating_point_v<From>) {  // one such label ruins every weight
    const auto bad = std::find_if(first, end, [](From value) { return !std::isfinite(value); });
    if (bad != end) throw DataError(where(bad - first) + ": is " + (std::isnan(*bad) ? "NaN" : "infinite"));
  }
  out->insert(out->end(), first, end);
}

template <typename To, typename WhereOf>
void AppendNumbers(const arrow::ArrayData& cells, CellRange range, const WhereOf& where, Buffer<To>* out) {
  switch (cells.type->id()) {
    case arrow::Type::INT32:
      return AppendCells<int32_t>(cells, range, where, out);
    case arrow::Type::INT64:
      return AppendCells<int64_t>(cells, range, where, out);
    case arrow::Type::FLOAT:
      return AppendCells<float>(cells, range, where, out);
    case arrow::Type::DOUBLE:
      return AppendCells<double>(cells, range, where, out);
    default:
      return;  // the constructor let no other type in
  }
}

template <typename To>
void AppendColumn(const RowSlice& slice, int index, const std::string& name, Buffer<To>* out) {
  const auto where = [&](int64_t row) { return Where(slice, row) + ", column " + name; };
  AppendNumbers(*slice.rows->column_data(index), {slice.begin, slice.begin + slice.count}, where, out);
}

/// The lists of a slice, whose values lie one after the other, and where each ends.
template <typename To>
void AppendLists(const RowSlice& slice, int index, const std::string& name, Buffer<To>* out, Buffer<int64_t>* offsets) {
  const arrow::ArrayData& column = *slice.rows->column_data(index);
  const Lists lists(column);
  const Validity valid(column);
  const auto first = static_cast<int64_t>(out->size());
  CellRange all{lists[slice.begin].begin, lists[slice.begin].begin};
  for (int64_t row = 0; row < slice.count; ++row) {
    if (!valid[slice.begin + row]) throw DataError(Where(slice, row) + ", column " + name + ": is null");
    all.end = lists[slice.begin + row].end;
    offsets->push_back(first + all.size());
  }
  const auto where = [&](int64_t value) {
    const auto end = std::upper_bound(offsets->end() - slice.count, offsets->end(), first + value);
    return Where(slice, end - (offsets->end() - slice.count)) + ", column " + name + ": a value";
  };
  AppendNumbers(*column.child_data[0], all, where, out);
}

template <typename T>
T Opened(arrow::Result<T> result) {
  if (!result.ok()) throw DataError("reserved columns: " + result.status().message());
  return std::move(result).ValueUnsafe();
}

}  // namespace

BatchAssembler::BatchAssembler(features::FeatureProgram program, const BatchColumns& columns,
                               const arrow::Schema& schema)
    : program_(std::move(program)), aligned_(columns.aligned), label_names_(columns.labels) {
  const auto refuse = [&](const char* what, const Column& column, const char* allowed) {
    throw DataError(std::string(what) + " column [" + column.name + "] with dtype " +
                    schema.field(column.index)->type()->ToString() + ": only " + allowed + " is supported");
  };
  for (const std::string& name : columns.labels) {
    labels_.push_back(Find(name, schema));
    const bool lists = std::any_of(aligned_.begin(), aligned_.end(), [](const auto& of) { return of.labels; });
    if (labels_.back().list != lists || (!labels_.back().integer && !labels_.back().floating))
      refuse("label", labels_.back(), lists ? "list of float or int, one value a candidate," : "float or int");
  }
  for (const std::string& name : columns.sample_weights) {
    sample_weights_.push_back(Find(name, schema));
    if (!sample_weights_.back().floating || sample_weights_.back().list)
      refuse("sample weight", sample_weights_.back(), "float");
  }
  if (!columns.event_time.empty() && schema.GetFieldIndex(columns.event_time) >= 0) {
    event_time_ = Find(columns.event_time, schema);
    if (!event_time_->integer || event_time_->list) refuse("event time", *event_time_, "int");
  }
  for (const std::string& name : columns.reserved) reserved_.push_back(Find(name, schema).index);
}

BatchAssembler::Column BatchAssembler::Find(const std::string& name, const arrow::Schema& schema) const {
  Column column{name, schema.GetFieldIndex(name)};
  if (column.index < 0) throw DataError("column " + name + " is missing");
  const arrow::DataType& whole = *schema.field(column.index)->type();
  column.list = whole.id() == arrow::Type::LIST;
  const arrow::Type::type type = column.list ? whole.field(0)->type()->id() : whole.id();
  column.integer = type == arrow::Type::INT32 || type == arrow::Type::INT64;
  column.floating = type == arrow::Type::FLOAT || type == arrow::Type::DOUBLE;
  return column;
}

void BatchAssembler::Fill(std::span<const RowSlice> slices, Batch* out) const {
  program_.Run(slices, *out);
  out->read = out->rows;
  out->negatives = 0;
  out->hard_negatives.clear();
  FillLabels(slices, out);
  for (const AlignedSequences& aligned : aligned_) CheckAligned(aligned, slices, label_names_, *out);
  out->sample_weights.resize(sample_weights_.size());
  for (size_t i = 0; i < sample_weights_.size(); ++i) {
    out->sample_weights[i].clear();
    for (const RowSlice& slice : slices) {
      AppendColumn(slice, sample_weights_[i].index, sample_weights_[i].name, &out->sample_weights[i]);
    }
  }
  for (auto& [source, last] : out->position) last = -1;  // keep the map's nodes for the same sources
  for (const RowSlice& slice : slices) {
    if (slice.source == nullptr) continue;
    int64_t& last = out->position.try_emplace(*slice.source, -1).first->second;
    last = std::max(last, slice.position + slice.count - 1);
  }
  std::erase_if(out->position, [](const auto& entry) { return entry.second < 0; });
  out->data_timestamp = NewestEvent(slices);
  ReserveRows(slices, out);
}

void BatchAssembler::FillLabels(std::span<const RowSlice> slices, Batch* out) const {
  out->labels.resize(labels_.size());
  for (size_t i = 0; i < labels_.size(); ++i) {
    const Column& column = labels_[i];
    Label& label = out->labels[i];
    label.floats.clear();
    label.ints.clear();
    label.offsets.assign(column.list ? 1 : 0, 0);
    const auto append = [&](const RowSlice& slice, auto* values) {
      if (column.list) {
        AppendLists(slice, column.index, column.name, values, &label.offsets);
      } else {
        AppendColumn(slice, column.index, column.name, values);
      }
    };
    for (const RowSlice& slice : slices) {
      if (column.integer) {
        append(slice, &label.ints);
      } else {
        append(slice, &label.floats);
      }
    }
  }
}

int64_t BatchAssembler::NewestEvent(std::span<const RowSlice> slices) const {
  int64_t newest = -1;
  if (!event_time_) return newest;
  for (const RowSlice& slice : slices) {
    const arrow::ArrayData& cells = *slice.rows->column_data(event_time_->index);
    const Validity valid(cells);
    const auto take = [&](const auto numbers) {
      for (int64_t row = slice.begin; row < slice.begin + slice.count; ++row) {
        if (valid[row]) newest = std::max(newest, static_cast<int64_t>(numbers[row]));
      }
    };
    cells.type->id() == arrow::Type::INT32 ? take(Numbers<int32_t>(cells)) : take(Numbers<int64_t>(cells));
  }
  return newest;
}

void BatchAssembler::ReserveRows(std::span<const RowSlice> slices, Batch* out) const {
  out->reserved.reset();
  if (reserved_.empty()) return;
  arrow::RecordBatchVector parts;
  for (const RowSlice& slice : slices) {
    parts.push_back(Opened(slice.rows->SelectColumns(reserved_))->Slice(slice.begin, slice.count));
  }
  out->reserved = parts.size() == 1 ? parts[0] : Opened(arrow::ConcatenateRecordBatches(parts));
}

}  // namespace anneal::data
