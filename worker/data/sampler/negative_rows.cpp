#include "worker/data/sampler/negative_rows.h"

#include <arrow/array/array_primitive.h>
#include <arrow/compute/api_vector.h>
#include <arrow/datum.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>

#include "worker/config/error.h"
#include "worker/config/sampler_settings.h"
#include "worker/data/sampler/table_file.h"
#include "worker/features/arrow_column.h"
#include "worker/features/bad_value.h"
#include "worker/features/data_groups.h"
#include "worker/features/number_text.h"
#include "worker/train/progress/log.h"

namespace anneal::data {
namespace {

/// Feature by feature, rows of the one and then of the other. In place, from the last feature to the first: what moves
/// goes to where nothing is any more.
void AppendSparse(int64_t rows, const KeyedJagged& items, int64_t item_rows, KeyedJagged& batch) {
  const int64_t features = (std::ssize(items.offsets) - 1) / item_rows, all_rows = rows + item_rows;
  const bool weights = !batch.weights.empty() || !items.weights.empty();
  const auto total = batch.values.size() + items.values.size();
  batch.values.resize(total);
  if (weights) batch.weights.resize(total);
  batch.offsets.resize(features * all_rows + 1);
  for (int64_t f = features - 1; f >= 0; --f) {
    const int64_t* item_offsets = items.offsets.data() + f * item_rows;
    const int64_t shift = item_offsets[0], begin = batch.offsets[f * rows], end = batch.offsets[(f + 1) * rows];
    const auto join = [&](auto& all, const auto& more) {
      std::move_backward(all.begin() + begin, all.begin() + end, all.begin() + end + shift);
      std::copy(more.begin() + shift, more.begin() + item_offsets[item_rows], all.begin() + end + shift);
    };
    join(batch.values, items.values);
    if (weights) join(batch.weights, items.weights);
    int64_t* offsets = batch.offsets.data() + f * all_rows;
    for (int64_t row = item_rows; row > 0; --row) offsets[rows + row] = end + item_offsets[row];
    for (int64_t row = rows; row > 0; --row) offsets[row] = batch.offsets[f * rows + row] + shift;
  }
}

config::SamplerSettings SettingsOf(const tzrec::protos::EasyRecConfig& config) {
  return config::SamplerOf(config.data_config()).value();
}

std::shared_ptr<const NegativeSampler> MakeSampler(const tzrec::protos::EasyRecConfig& config,
                                                   const arrow::Schema& input, bool training, int rank) {
  return NegativeSampler::MakerOfStreams()(config.data_config(), training, input, [&](const std::string& text) {
    if (rank == 0) LogWarning(text);
  });
}

/// The program of what sampled items have.
features::FeatureProgram ItemProgram(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                                     const NegativeSampler& sampler) {
  const std::vector<std::string> attr_fields = SettingsOf(config).attr_fields;
  const RowSlice& items = sampler.attributes();
  try {
    return {features, config, *items.rows->schema(),
            [&](const features::Feature& feature) { return features::IsSampled(feature, attr_fields); }};
  } catch (const DataError& error) {  // knows the columns, not where they are from
    throw DataError((items.file ? *items.file + ": " : "") + error.what());
  }
}

}  // namespace

void AppendNegatives(Batch& batch, const Batch& items, std::vector<std::pair<int32_t, int32_t>> hard_negatives) {
  if (items.rows > 0) AppendSparse(batch.rows, items.sparse, items.rows, batch.sparse);
  batch.dense.insert(batch.dense.end(), items.dense.begin(), items.dense.end());
  for (size_t i = 0; i < batch.dense_sequences.size(); ++i) {
    DenseSequence& sequence = batch.dense_sequences[i];
    const DenseSequence& more = items.dense_sequences[i];
    sequence.values.insert(sequence.values.end(), more.values.begin(), more.values.end());
    const int64_t elements = sequence.offsets.back();
    for (int64_t row = 1; row <= items.rows; ++row) sequence.offsets.push_back(elements + more.offsets[row]);
  }
  batch.rows += items.rows;
  batch.negatives = items.rows;
  batch.hard_negatives = std::move(hard_negatives);
}

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

NegativeRows::NegativeRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                           const arrow::Schema& input, bool training, const SamplingRequest& request)
    : request_(request),
      sampler_(MakeSampler(config, input, training, request.rank)),
      item_ids_(SettingsOf(config).item_id_field, SettingsOf(config).item_id_delimiter, input),
      program_(ItemProgram(config, features, *sampler_)) {
  if (const std::string users = SettingsOf(config).user_id_field; !users.empty()) user_ids_.emplace(users, "", input);
}

void NegativeRows::Append(std::span<const RowSlice> slices, int worker, int64_t pass, int64_t number,
                          Batch* batch) const {
  const std::vector<int64_t> items = item_ids_.Read(slices);
  const std::vector<int64_t> users = user_ids_ ? user_ids_->Read(slices) : std::vector<int64_t>();
  SamplingRequest request = request_;
  request.items = items;
  request.users = users;
  request.worker = worker;
  request.pass = pass;
  request.number = number;
  Negatives negatives = sampler_->Sample(request);
  Batch sampled;
  RunFeatures(negatives.items, &sampled);
  AppendNegatives(*batch, sampled, std::move(negatives.hard_indices));
}

void NegativeRows::RunFeatures(const std::vector<int64_t>& items, Batch* out) const {
  const RowSlice& all = sampler_->attributes();
  const auto rows = std::make_shared<arrow::Int64Array>(std::ssize(items), arrow::Buffer::Wrap(items));
  const auto taken =
      arrow::compute::Take(arrow::Datum(all.rows), arrow::Datum(rows), arrow::compute::TakeOptions::NoBoundsCheck());
  if (!taken.ok()) throw DataError(Where(all, 0) + ": " + taken.status().message());
  try {
    program_.Run(taken->record_batch(), *out);
  } catch (const DataError&) {  // names a row of `taken`: find it in the table
    for (const int64_t item : items) {
      RowSlice one = all;
      one.begin += item;
      one.row_in_file += item;
      one.count = 1;
      program_.Run({&one, 1}, *out);
    }
    throw;
  }
}

}  // namespace anneal::data
