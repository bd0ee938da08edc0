#include "worker/data/sampler/tree_rows.h"

#include <algorithm>
#include <cmath>

#include "worker/config/error.h"
#include "worker/features/data_groups.h"

namespace anneal::data {
namespace {

/// Where row `row` of a batch of those slices is from.
std::string WhereOf(std::span<const RowSlice> slices, int64_t row) {
  auto slice = slices.begin();
  while (row >= slice->count) row -= (slice++)->count;
  return Where(*slice, row);
}

/// All features' ids, of `rows` rows of the batch and of as many nodes as `of_row` has: a node's own where `nodes` has
/// the feature, otherwise those of its row.
KeyedJagged Join(const KeyedJagged& batch, int64_t rows, const KeyedJagged& nodes, const std::vector<int32_t>& of_row,
                 const std::vector<bool>& of_nodes) {
  const int64_t more = std::ssize(of_row), all = rows + more, features = std::ssize(of_nodes);
  KeyedJagged joined;
  joined.offsets.resize(features * all + 1);
  int64_t end = 0;
  for (int64_t f = 0; f < features; ++f) {
    int64_t* offsets = joined.offsets.data() + f * all;
    const int64_t *own = batch.offsets.data() + f * rows, *sampled = nodes.offsets.data() + f * more;
    for (int64_t row = 0; row < rows; ++row) offsets[row] = end, end += own[row + 1] - own[row];
    for (int64_t i = 0; i < more; ++i) {
      offsets[rows + i] = end;
      end += of_nodes[f] ? sampled[i + 1] - sampled[i] : own[of_row[i] + 1] - own[of_row[i]];
    }
  }
  joined.offsets.back() = end;
  const auto fill = [&](auto& to, const auto& from, const auto& sampled) {
    to.resize(end);
    auto at = to.begin();
    for (int64_t f = 0; f < features; ++f) {
      const int64_t* own = batch.offsets.data() + f * rows;
      at = std::copy(from.begin() + own[0], from.begin() + own[rows], at);
      if (of_nodes[f]) {
        const int64_t* ends = nodes.offsets.data() + f * more;
        at = std::copy(sampled.begin() + ends[0], sampled.begin() + ends[more], at);
        continue;
      }
      for (const int32_t row : of_row) at = std::copy(from.begin() + own[row], from.begin() + own[row + 1], at);
    }
  };
  fill(joined.values, batch.values, nodes.values);
  if (!batch.weights.empty() || !nodes.weights.empty()) fill(joined.weights, batch.weights, nodes.weights);
  return joined;
}

void AppendRows(DenseSequence& batch, const std::vector<int32_t>& of_row) {
  if (batch.offsets.back() == 0) {
    batch.offsets.resize(batch.offsets.size() + of_row.size(), 0);
    return;
  }
  const int64_t width = std::ssize(batch.values) / batch.offsets.back();
  int64_t elements = batch.offsets.back();
  for (const int32_t row : of_row) elements += batch.offsets[row + 1] - batch.offsets[row];
  batch.values.reserve(elements * width);
  batch.offsets.reserve(batch.offsets.size() + of_row.size());
  for (const int32_t row : of_row) {
    const int64_t begin = batch.offsets[row], count = batch.offsets[row + 1] - begin, end = batch.offsets.back();
    batch.values.resize((end + count) * width);
    std::copy_n(batch.values.begin() + begin * width, count * width, batch.values.begin() + end * width);
    batch.offsets.push_back(end + count);
  }
}

}  // namespace

TreeRows::TreeRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                   const arrow::Schema& input, const SamplingRequest& request)
    : TreeRows(config::TreeSamplerOf(config.data_config()).value(), config, features, input, request) {}

TreeRows::TreeRows(const config::TreeSamplerSettings& settings, const tzrec::protos::EasyRecConfig& config,
                   const features::FeatureSet& features, const arrow::Schema& input, const SamplingRequest& request)
    : request_(request),
      nodes_path_(settings.nodes.path),
      labels_(config.data_config().label_fields().begin(), config.data_config().label_fields().end()),
      sampler_(TreeSampler::MakerOfStreams()(config.data_config(), input, WarningsOf(request.rank))),
      item_ids_(settings.item_id_field, "", input),
      features_(config, features, sampler_->attributes(), settings.attr_fields) {
  const auto of_nodes = [&](const features::Feature* feature) {
    return features::IsSampled(*feature, settings.attr_fields);
  };
  for (const auto* feature : features.sparse()) sparse_.push_back(of_nodes(feature));
  for (const auto* feature : features.dense_sequences()) dense_sequences_.push_back(of_nodes(feature));
  for (const auto* feature : features.dense()) {
    if (of_nodes(feature)) dense_.push_back({feature->dense_column, feature->value_dim});
  }
}

TreeNodes TreeRows::Draw(std::span<const RowSlice> slices, const SamplingRequest& request) const {
  try {
    return sampler_->Sample(request);
  } catch (const UnknownLeaf& unknown) {
    throw DataError(WhereOf(slices, unknown.row) + ", column " + item_ids_.name() + ": the item is no leaf of " +
                    nodes_path_);
  }
}

void TreeRows::Append(std::span<const RowSlice> slices, int worker, int64_t pass, int64_t number, Batch* batch) const {
  const std::vector<int64_t> items = item_ids_.Read(slices);
  SamplingRequest request = request_;
  request.items = items;
  request.worker = worker;
  request.pass = pass;
  request.number = number;
  const TreeNodes drawn = Draw(slices, request);
  const int64_t rows = batch->rows, more = std::ssize(drawn.nodes);
  if (more == 0) return;
  Batch nodes;
  features_.Run(drawn.nodes, &nodes);
  batch->sparse = Join(batch->sparse, rows, nodes.sparse, drawn.rows, sparse_);
  if (const int64_t width = std::ssize(batch->dense) / rows; width > 0) {
    batch->dense.resize((rows + more) * width);
    for (int64_t i = 0; i < more; ++i) {
      float* const to = batch->dense.data() + (rows + i) * width;
      std::copy_n(batch->dense.data() + drawn.rows[i] * width, width, to);
      for (const auto& [column, count] : dense_)
        std::copy_n(nodes.dense.data() + i * width + column, count, to + column);
    }
  }
  for (size_t s = 0; s < batch->dense_sequences.size(); ++s) {
    if (dense_sequences_[s]) {
      AppendSequence(batch->dense_sequences[s], nodes.dense_sequences[s]);
    } else {
      AppendRows(batch->dense_sequences[s], drawn.rows);
    }
  }
  for (size_t l = 0; l < batch->labels.size(); ++l) {
    Buffer<float>& floats = batch->labels[l].floats;
    Buffer<int64_t>& ints = batch->labels[l].ints;
    for (int64_t row = 0; row < std::ssize(floats); ++row) {
      // The next numbers outside of int64 are -2^63 - 2^40 and 2^63.
      if (floats[row] != std::trunc(floats[row]) || !(floats[row] >= -0x1p63f && floats[row] < 0x1p63f)) {
        throw DataError(WhereOf(slices, row) + ", column " + labels_[l] + ": " + std::to_string(floats[row]) +
                        " is no integer, and tdm_sampler makes labels integers");
      }
      ints.push_back(static_cast<int64_t>(floats[row]));
    }
    floats.clear();
    ints.insert(ints.end(), drawn.ancestors, 1);
    ints.insert(ints.end(), more - drawn.ancestors, 0);
  }
  for (Buffer<float>& weights : batch->sample_weights) {
    weights.reserve(rows + more);
    for (const int32_t row : drawn.rows) weights.push_back(weights[row]);
  }
  batch->rows = rows + more;
}

}  // namespace anneal::data
