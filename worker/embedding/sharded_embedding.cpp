#include "worker/embedding/sharded_embedding.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "worker/embedding/initializer.h"

namespace anneal::embedding {
namespace {

Pooling ToPooling(features::Pooling pooling) {
  return pooling == features::Pooling::kMean ? Pooling::kMean : Pooling::kSum;
}

at::Tensor Wrap(std::vector<int64_t>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kLong);
}

at::Tensor Wrap(std::vector<float>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat);
}

}  // namespace

std::vector<PlannedTable> TablesOf(const models::EmbeddingPlan& plan) {
  std::vector<PlannedTable> tables;
  for (const auto& table : plan.tables) tables.push_back({table.name, table.rows, table.dim, table.constraints});
  return tables;
}

struct ShardedEmbedding::Exchange {
  std::vector<Jagged> jagged;         ///< of this rank's lookups, over the global batch
  std::vector<Jagged> dense;          ///< of the dense tables' lookups, over this rank's batch
  int64_t rows = 0;                   ///< of this rank's batch
  std::vector<int64_t> rows_of_rank;  ///< of every rank's batch
  int64_t global_rows = 0;
  std::vector<int64_t> values, offsets;  ///< behind `jagged` when ids were exchanged
  std::vector<float> weights;
  const data::Batch* batch = nullptr;  ///< lengths for MEAN over row-wise tables
};

ShardedEmbedding::ShardedEmbedding(const models::EmbeddingPlan& plan, std::vector<TablePlacement> placements,
                                   const OptimizerSpec& optimizer, dist::ProcessGroup& group, int threads)
    : plan_(plan),
      placements_(std::move(placements)),
      optimizer_(optimizer),
      group_(group),
      local_index_(plan.tables.size(), -1),
      row_begin_(plan.tables.size(), 0),
      served_(group.world_size()),
      served_width_(group.world_size(), 0),
      dense_index_(plan.tables.size(), -1),
      exchange_(std::make_unique<Exchange>()) {
  const int rank = group.rank();
  std::vector<TableSpec> specs, dense_specs;
  for (size_t t = 0; t < plan.tables.size(); ++t) {
    if (placements_[t].dense()) {
      dense_index_[t] = static_cast<int>(dense_specs.size());
      dense_specs.push_back({plan.tables[t].name, plan.tables[t].rows, plan.tables[t].dim, /*trainable=*/false});
      continue;
    }
    const auto& ranks = placements_[t].ranks;
    const auto here = std::find(ranks.begin(), ranks.end(), rank);
    if (here == ranks.end()) continue;
    RowRange rows{0, plan.tables[t].rows};
    if (placements_[t].type == ShardingType::kRowWise) {
      rows = RowWiseShard(plan.tables[t].rows, static_cast<int>(ranks.size()), static_cast<int>(here - ranks.begin()));
    }
    local_index_[t] = static_cast<int>(specs.size());
    row_begin_[t] = rows.begin;
    specs.push_back({plan.tables[t].name, rows.end - rows.begin, plan.tables[t].dim, plan.tables[t].trainable});
  }
  std::vector<FeatureSpec> features, dense_features;
  for (size_t l = 0; l < plan.lookups.size(); ++l) {
    const auto& lookup = plan.lookups[l];
    const auto& placement = placements_[lookup.table];
    if (placement.dense()) {
      dense_lookups_.push_back(static_cast<int>(l));
      dense_features.push_back(
          {dense_index_[lookup.table], ToPooling(plan.tables[lookup.table].pooling), lookup.column});
      continue;
    }
    fused_lookups_.push_back(static_cast<int>(l));
    for (int r : placement.ranks) {
      if (r == rank) {
        // A row-wise shard sees part of a bag: it sums, and the asking rank divides by the whole bag's length.
        const bool split = placement.type == ShardingType::kRowWise && placement.ranks.size() > 1;
        const auto pooling = split ? Pooling::kSum : ToPooling(plan.tables[lookup.table].pooling);
        const int64_t column = group.world_size() == 1 ? lookup.column : served_width_[rank];
        features.push_back({local_index_[lookup.table], pooling, column});
      }
      served_[r].push_back(static_cast<int>(l));
      served_width_[r] += lookup.dim;
    }
  }
  tables_ = MakeCpuTableBatch(std::move(specs), std::move(features), optimizer, threads);
  dense_batch_ = MakeCpuTableBatch(std::move(dense_specs), std::move(dense_features), OptimizerSpec{}, threads);
  for (size_t t = 0; t < plan.tables.size(); ++t) {
    if (dense_index_[t] < 0) continue;
    const auto& table = plan.tables[t];
    at::Tensor rows = at::from_blob(dense_batch_->weights(dense_index_[t]), {table.rows, table.dim}, at::kFloat);
    dense_tables_.push_back({table.state_name(), rows.set_requires_grad(table.trainable)});
  }
}

ShardedEmbedding::~ShardedEmbedding() = default;

void ShardedEmbedding::Initialize(uint64_t seed) {
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    const Initializer initializer(table.init_fn, table.name, table.rows, table.dim);
    if (dense_index_[t] >= 0) initializer.Fill(seed, 0, table.rows, dense_batch_->weights(dense_index_[t]));
    if (local_index_[t] < 0) continue;
    initializer.Fill(seed, row_begin_[t], tables_->tables()[local_index_[t]].rows, tables_->weights(local_index_[t]));
  }
}

at::Tensor ShardedEmbedding::Forward(const data::Batch& batch) {
  exchange_->batch = &batch;
  exchange_->rows = batch.rows;
  const at::Tensor pooled = group_.world_size() == 1 ? ForwardLocal(batch) : ForwardExchanged(batch);
  if (!dense_lookups_.empty()) ForwardDense(batch, pooled);
  return pooled;
}

void ShardedEmbedding::ForwardDense(const data::Batch& batch, const at::Tensor& pooled) {
  auto& jagged = exchange_->dense;
  jagged.clear();
  const auto& sparse = batch.sparse;
  for (const int l : dense_lookups_) {
    jagged.push_back({sparse.values.data(), sparse.offsets.data() + plan_.lookups[l].feature * batch.rows,
                      sparse.weights.empty() ? nullptr : sparse.weights.data()});
  }
  if (batch.rows > 0) dense_batch_->Forward(jagged, batch.rows, pooled.data_ptr<float>(), plan_.pooled_width);
}

int64_t ShardedEmbedding::global_rows() const { return exchange_->global_rows; }

at::Tensor ShardedEmbedding::ForwardLocal(const data::Batch& batch) {
  auto& jagged = exchange_->jagged;
  jagged.clear();
  const auto& sparse = batch.sparse;
  for (const int l : fused_lookups_) {
    jagged.push_back({sparse.values.data(), sparse.offsets.data() + plan_.lookups[l].feature * batch.rows,
                      sparse.weights.empty() ? nullptr : sparse.weights.data()});
  }
  exchange_->global_rows = batch.rows;
  at::Tensor pooled = at::empty({batch.rows, plan_.pooled_width}, at::kFloat);
  tables_->Forward(jagged, batch.rows, pooled.data_ptr<float>(), plan_.pooled_width);
  return pooled;
}

at::Tensor ShardedEmbedding::ForwardExchanged(const data::Batch& batch) {
  Exchange& exchange = *exchange_;
  const int ranks = group_.world_size(), me = group_.rank();
  const int64_t rows = batch.rows;
  const auto& sparse = batch.sparse;
  exchange.rows_of_rank = group_.AllGather(rows);
  exchange.global_rows = std::accumulate(exchange.rows_of_rank.begin(), exchange.rows_of_rank.end(), int64_t{0});

  // Ids for every rank: lookup by lookup, row by row.
  std::vector<int64_t> lengths, values, length_splits, value_splits;
  std::vector<float> weights;
  for (int r = 0; r < ranks; ++r) {
    const size_t values_before = values.size();
    for (const int l : served_[r]) {
      const auto& lookup = plan_.lookups[l];
      const auto& placement = placements_[lookup.table];
      const auto& table = plan_.tables[lookup.table];
      const int64_t* offsets = sparse.offsets.data() + lookup.feature * rows;
      const bool split = placement.type == ShardingType::kRowWise;
      const int shards = static_cast<int>(placement.ranks.size());
      const int position =
          static_cast<int>(std::find(placement.ranks.begin(), placement.ranks.end(), r) - placement.ranks.begin());
      const RowRange shard = split ? RowWiseShard(table.rows, shards, position) : RowRange{0, table.rows};
      for (int64_t b = 0; b < rows; ++b) {
        int64_t count = 0;
        for (int64_t i = offsets[b]; i < offsets[b + 1]; ++i) {
          int64_t id = sparse.values[i];
          if (split) {
            // An id outside the table goes to the first shard, which clamps and counts it.
            const bool outside = id < 0 || id >= table.rows;
            if (outside ? position != 0 : (id < shard.begin || id >= shard.end)) continue;
            id = outside ? -1 : id - shard.begin;
          }
          values.push_back(id);
          if (plan_.weighted) weights.push_back(sparse.weights[i]);
          ++count;
        }
        lengths.push_back(count);
      }
    }
    length_splits.push_back(static_cast<int64_t>(served_[r].size()) * rows);
    value_splits.push_back(static_cast<int64_t>(values.size() - values_before));
  }

  // Lengths first, then as many values as they say.
  const int64_t mine = static_cast<int64_t>(served_[me].size());
  std::vector<int64_t> received_length_splits, received_value_splits;
  for (int r = 0; r < ranks; ++r) received_length_splits.push_back(mine * exchange.rows_of_rank[r]);
  std::vector<int64_t> received_lengths(mine * exchange.global_rows);
  group_.AllToAll(Wrap(received_lengths), Wrap(lengths), received_length_splits, length_splits);
  int64_t at = 0, total = 0;
  for (int r = 0; r < ranks; ++r) {
    int64_t sum = 0;
    for (int64_t i = 0; i < received_length_splits[r]; ++i) sum += received_lengths[at + i];
    at += received_length_splits[r];
    received_value_splits.push_back(sum);
    total += sum;
  }
  std::vector<int64_t> received(total);
  std::vector<float> received_weights(plan_.weighted ? total : 0);
  group_.AllToAll(Wrap(received), Wrap(values), received_value_splits, value_splits);
  if (plan_.weighted) group_.AllToAll(Wrap(received_weights), Wrap(weights), received_value_splits, value_splits);

  // [rank][lookup][row] -> [lookup][rank][row]
  exchange.values.resize(total);
  exchange.weights.resize(received_weights.size());
  exchange.offsets.assign(mine * (exchange.global_rows + 1), 0);
  std::vector<int64_t> value_at(ranks, 0), length_at(ranks, 0);
  for (int r = 1; r < ranks; ++r) {
    value_at[r] = value_at[r - 1] + received_value_splits[r - 1];
    length_at[r] = length_at[r - 1] + received_length_splits[r - 1];
  }
  int64_t written = 0;
  exchange.jagged.clear();
  for (int64_t l = 0; l < mine; ++l) {
    int64_t* offsets = exchange.offsets.data() + l * (exchange.global_rows + 1);
    *offsets = written;
    for (int r = 0; r < ranks; ++r) {
      for (int64_t b = 0; b < exchange.rows_of_rank[r]; ++b) {
        const int64_t length = received_lengths[length_at[r]++];
        std::copy_n(received.begin() + value_at[r], length, exchange.values.begin() + written);
        if (plan_.weighted) {
          std::copy_n(received_weights.begin() + value_at[r], length, exchange.weights.begin() + written);
        }
        value_at[r] += length;
        written += length;
        *++offsets = written;
      }
    }
    exchange.jagged.push_back({exchange.values.data(), exchange.offsets.data() + l * (exchange.global_rows + 1),
                               plan_.weighted ? exchange.weights.data() : nullptr});
  }

  // Pooled rows back to the ranks whose rows they are.
  const int64_t width = served_width_[me];
  std::vector<float> looked_up(exchange.global_rows * width);
  if (mine > 0) tables_->Forward(exchange.jagged, exchange.global_rows, looked_up.data(), width);
  std::vector<int64_t> send, receive;
  int64_t receive_total = 0;
  for (int r = 0; r < ranks; ++r) {
    send.push_back(exchange.rows_of_rank[r] * width);
    receive.push_back(rows * served_width_[r]);
    receive_total += receive.back();
  }
  std::vector<float> blocks(receive_total);
  group_.AllToAll(Wrap(blocks), Wrap(looked_up), receive, send);

  at::Tensor pooled = at::zeros({rows, plan_.pooled_width}, at::kFloat);
  float* out = pooled.data_ptr<float>();
  const float* block = blocks.data();
  for (int r = 0; r < ranks; ++r) {
    int64_t column = 0;
    for (const int l : served_[r]) {
      const auto& lookup = plan_.lookups[l];
      const bool split = placements_[lookup.table].type == ShardingType::kRowWise;
      const bool divide = split && plan_.tables[lookup.table].pooling == features::Pooling::kMean;
      const int64_t* offsets = sparse.offsets.data() + lookup.feature * rows;
      for (int64_t b = 0; b < rows; ++b) {
        const float* source = block + b * served_width_[r] + column;
        float* target = out + b * plan_.pooled_width + lookup.column;
        const int64_t length = offsets[b + 1] - offsets[b];
        const float scale = divide && length > 0 ? 1.0f / static_cast<float>(length) : 1.0f;
        for (int64_t d = 0; d < lookup.dim; ++d) target[d] += source[d] * scale;
      }
      column += lookup.dim;
    }
    block += rows * served_width_[r];
  }
  return pooled;
}

void ShardedEmbedding::AccumulateDenseGradients(const at::Tensor& gradient) {
  if (dense_lookups_.empty()) return;
  std::vector<float*> out;
  for (auto& table : dense_tables_) {
    if (!table.tensor.requires_grad()) {
      out.push_back(nullptr);
      continue;
    }
    if (!table.tensor.grad().defined()) table.tensor.mutable_grad() = at::zeros_like(table.tensor.detach());
    out.push_back(table.tensor.mutable_grad().data_ptr<float>());
  }
  if (exchange_->rows == 0) return;
  const at::Tensor contiguous = gradient.contiguous();
  dense_batch_->AccumulateGradients(exchange_->dense, exchange_->rows, contiguous.const_data_ptr<float>(),
                                    plan_.pooled_width, out);
}

std::vector<double> ShardedEmbedding::group_factors() const {
  std::vector<double> factors;
  for (const auto pooling : {features::Pooling::kSum, features::Pooling::kMean}) {
    std::vector<double> seen;
    for (size_t t = 0; t < plan_.tables.size(); ++t) {
      const double factor = plan_.tables[t].trainable ? 1.0 : 0.0;
      if (placements_[t].dense() || plan_.tables[t].pooling != pooling) continue;
      if (std::find(seen.begin(), seen.end(), factor) == seen.end()) seen.push_back(factor);
    }
    factors.insert(factors.end(), seen.begin(), seen.end());
  }
  return factors;
}

void ShardedEmbedding::BackwardUpdate(const at::Tensor& gradient, double learning_rate, float scale) {
  const Exchange& exchange = *exchange_;
  const float rate = static_cast<float>(learning_rate);
  const at::Tensor contiguous = gradient.contiguous();
  const float* grad = contiguous.const_data_ptr<float>();
  if (group_.world_size() == 1) {
    tables_->BackwardUpdate(exchange.jagged, exchange.rows, grad, plan_.pooled_width, scale, rate);
    return;
  }
  const int ranks = group_.world_size(), me = group_.rank();
  const int64_t rows = exchange.rows, width = served_width_[me];
  const float average = scale / static_cast<float>(ranks);
  std::vector<int64_t> send, receive;
  std::vector<float> blocks;
  for (int r = 0; r < ranks; ++r) {
    send.push_back(rows * served_width_[r]);
    receive.push_back(exchange.rows_of_rank[r] * width);
  }
  blocks.resize(std::accumulate(send.begin(), send.end(), int64_t{0}));
  float* block = blocks.data();
  for (int r = 0; r < ranks; ++r) {
    int64_t column = 0;
    for (const int l : served_[r]) {
      const auto& lookup = plan_.lookups[l];
      const bool split = placements_[lookup.table].type == ShardingType::kRowWise;
      const bool divide = split && plan_.tables[lookup.table].pooling == features::Pooling::kMean;
      const int64_t* offsets = exchange.batch->sparse.offsets.data() + lookup.feature * rows;
      for (int64_t b = 0; b < rows; ++b) {
        const float* source = grad + b * plan_.pooled_width + lookup.column;
        float* target = block + b * served_width_[r] + column;
        const int64_t length = offsets[b + 1] - offsets[b];
        const float divisor = divide && length > 0 ? static_cast<float>(length) : 1.0f;
        const float bound = optimizer_.max_gradient;
        for (int64_t d = 0; d < lookup.dim; ++d) {
          float g = source[d] * average;
          if (bound > 0) g = std::clamp(g, -bound, bound);  // before the division, as a whole table does it
          target[d] = g / divisor;
        }
      }
      column += lookup.dim;
    }
    block += rows * served_width_[r];
  }
  std::vector<float> received(exchange.global_rows * width);
  group_.AllToAll(Wrap(received), Wrap(blocks), receive, send);
  tables_->BackwardUpdate(exchange.jagged, exchange.global_rows, received.data(), width, 1.0f, rate);
}

std::vector<Shard> ShardedEmbedding::weights() {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    shards.push_back({table.state_name(), tables_->weights(local_index_[t]), table.rows, row_begin_[t],
                      tables_->tables()[local_index_[t]].rows, table.dim});
  }
  return shards;
}

std::vector<Shard> ShardedEmbedding::state() {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    for (const StateView& view : tables_->state(local_index_[t])) {
      shards.push_back({table.state_name() + "//" + table.name + "." + view.name, view.data, table.rows, row_begin_[t],
                        view.rows, view.dim});
    }
  }
  return shards;
}

int64_t ShardedEmbedding::iteration() const { return tables_->iteration(); }
void ShardedEmbedding::set_iteration(int64_t iteration) { tables_->set_iteration(iteration); }
int64_t ShardedEmbedding::out_of_range() const { return tables_->out_of_range() + dense_batch_->out_of_range(); }

}  // namespace anneal::embedding
