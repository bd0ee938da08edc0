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

using features::Numbers;
using features::Validity;

/// Appends the slice's cells, which have to be there: a label or weight has no default.
template <typename From, typename To>
void AppendCells(const RowSlice& slice, const arrow::ArrayData& cells, const std::string& name, Buffer<To>* out) {
  const Validity valid(cells);
  if (!valid.all()) {
    for (int64_t row = 0; row < slice.count; ++row) {
      if (!valid[slice.begin + row]) throw DataError(Where(slice, row) + ", column " + name + ": is null");
    }
  }
  const From* first = Numbers<From>(cells).data() + slice.begin;
  if constexpr (std::is_floating_point_v<From>) {  // one such label ruins every weight
    const auto bad = std::find_if(first, first + slice.count, [](From value) { return !std::isfinite(value); });
    if (bad != first + slice.count)
      throw DataError(Where(slice, bad - first) + ", column " + name + ": is " +
                      (std::isnan(*bad) ? "NaN" : "infinite"));
  }
  out->insert(out->end(), first, first + slice.count);
}

template <typename To>
void AppendColumn(const RowSlice& slice, int index, const std::string& name, Buffer<To>* out) {
  const arrow::ArrayData& cells = *slice.rows->column_data(index);
  switch (cells.type->id()) {
    case arrow::Type::INT32:
      return AppendCells<int32_t>(slice, cells, name, out);
    case arrow::Type::INT64:
      return AppendCells<int64_t>(slice, cells, name, out);
    case arrow::Type::FLOAT:
      return AppendCells<float>(slice, cells, name, out);
    case arrow::Type::DOUBLE:
      return AppendCells<double>(slice, cells, name, out);
    default:
      return;  // the constructor let no other type in
  }
}

template <typename T>
T Opened(arrow::Result<T> result) {
  if (!result.ok()) throw DataError("reserved columns: " + result.status().message());
  return std::move(result).ValueUnsafe();
}

}  // namespace

BatchAssembler::BatchAssembler(features::FeatureProgram program, const BatchColumns& columns,
                               const arrow::Schema& schema)
    : program_(std::move(program)) {
  const auto refuse = [&](const char* what, const Column& column, const char* allowed) {
    throw DataError(std::string(what) + " column [" + column.name + "] with dtype " +
                    schema.field(column.index)->type()->ToString() + ": only " + allowed + " is supported");
  };
  for (const std::string& name : columns.labels) {
    labels_.push_back(Find(name, schema));
    if (!labels_.back().integer && !labels_.back().floating) refuse("label", labels_.back(), "float or int");
  }
  for (const std::string& name : columns.sample_weights) {
    sample_weights_.push_back(Find(name, schema));
    if (!sample_weights_.back().floating) refuse("sample weight", sample_weights_.back(), "float");
  }
  if (!columns.event_time.empty() && schema.GetFieldIndex(columns.event_time) >= 0) {
    event_time_ = Find(columns.event_time, schema);
    if (!event_time_->integer) refuse("event time", *event_time_, "int");
  }
  for (const std::string& name : columns.reserved) reserved_.push_back(Find(name, schema).index);
}

BatchAssembler::Column BatchAssembler::Find(const std::string& name, const arrow::Schema& schema) const {
  Column column{name, schema.GetFieldIndex(name)};
  if (column.index < 0) throw DataError("column " + name + " is missing");
  const arrow::Type::type type = schema.field(column.index)->type()->id();
  column.integer = type == arrow::Type::INT32 || type == arrow::Type::INT64;
  column.floating = type == arrow::Type::FLOAT || type == arrow::Type::DOUBLE;
  return column;
}

void BatchAssembler::Fill(std::span<const RowSlice> slices, Batch* out) const {
  program_.Run(slices, *out);
  out->read = out->rows;
  out->negatives = 0;
  out->hard_negatives.clear();
  out->labels.resize(labels_.size());
  for (size_t i = 0; i < labels_.size(); ++i) {
    Label& label = out->labels[i];
    label.floats.clear();
    label.ints.clear();
    for (const RowSlice& slice : slices) {
      if (labels_[i].integer) {
        AppendColumn(slice, labels_[i].index, labels_[i].name, &label.ints);
      } else {
        AppendColumn(slice, labels_[i].index, labels_[i].name, &label.floats);
      }
    }
  }
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
