#include "worker/data/sampler/negative_rows.h"

#include <algorithm>

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

}  // namespace

void AppendNegatives(Batch& batch, const Batch& items, std::vector<std::pair<int32_t, int32_t>> hard_negatives) {
  if (items.rows > 0) AppendSparse(batch.rows, items.sparse, items.rows, batch.sparse);
  batch.dense.insert(batch.dense.end(), items.dense.begin(), items.dense.end());
  for (size_t i = 0; i < batch.dense_sequences.size(); ++i)
    AppendSequence(batch.dense_sequences[i], items.dense_sequences[i]);
  batch.rows += items.rows;
  batch.negatives = items.rows;
  batch.hard_negatives = std::move(hard_negatives);
}

NegativeRows::NegativeRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                           const arrow::Schema& input, bool training, const SamplingRequest& request)
    : NegativeRows(config::SamplerOf(config.data_config()).value(), config, features, input, training, request) {}

NegativeRows::NegativeRows(const config::SamplerSettings& settings, const tzrec::protos::EasyRecConfig& config,
                           const features::FeatureSet& features, const arrow::Schema& input, bool training,
                           const SamplingRequest& request)
    : request_(request),
      sampler_(NegativeSampler::MakerOfStreams()(config.data_config(), training, input, WarningsOf(request.rank))),
      item_ids_(settings.item_id_field, settings.item_id_delimiter, input),
      features_(config, features, sampler_->attributes(), settings.attr_fields) {
  if (!settings.user_id_field.empty()) user_ids_.emplace(settings.user_id_field, "", input);
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
  features_.Run(negatives.items, &sampled);
  AppendNegatives(*batch, sampled, std::move(negatives.hard_indices));
}

}  // namespace anneal::data
