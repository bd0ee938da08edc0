#include "worker/embedding/sharded_embedding.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "worker/dist/vector_tensor.h"
#include "worker/embedding/initializer.h"

namespace anneal::embedding {
namespace {

Pooling ToPooling(features::Pooling pooling) {
  return pooling == features::Pooling::kMean ? Pooling::kMean : Pooling::kSum;
}

/// The bags of some lookups in a batch of this rank's own.
void BagsOf(const std::vector<int>& lookups, const models::EmbeddingPlan& plan, const data::Batch& batch,
            std::vector<Jagged>& bags) {
  bags.clear();
  const auto& sparse = batch.sparse;
  for (const int l : lookups) {
    bags.push_back({sparse.values.data(), sparse.offsets.data() + plan.lookups[l].feature * batch.rows,
                    sparse.weights.empty() ? nullptr : sparse.weights.data()});
  }
}

}  // namespace

std::vector<PlannedTable> TablesOf(const models::EmbeddingPlan& plan) {
  std::vector<PlannedTable> tables;
  for (const auto& table : plan.tables) tables.push_back({table.name, table.rows, table.dim, table.constraints, 0});
  for (const auto& lookup : plan.lookups) ++tables[lookup.table].lookups;
  return tables;
}

ShardedEmbedding::ShardedEmbedding(const models::EmbeddingPlan& plan, std::vector<TablePlacement> placements,
                                   const OptimizerSpec& optimizer, dist::ProcessGroup& group, int threads)
    : plan_(plan),
      placements_(std::move(placements)),
      optimizer_(optimizer),
      group_(group),
      shards_(plan.tables.size()),
      local_index_(plan.tables.size(), -1),
      served_width_(group.world_size(), 0),
      dense_index_(plan.tables.size(), -1) {
  MakeFusedTables(threads);
  MakeDenseTables(threads);
}

ShardedEmbedding::~ShardedEmbedding() = default;

void ShardedEmbedding::MakeFusedTables(int threads) {
  const int rank = group_.rank();
  std::vector<TableSpec> specs;
  std::vector<bool> trained;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    trained.push_back(table.trainable);
    const int position = placements_[t].PositionOf(rank);
    if (placements_[t].dense() || position < 0) continue;
    shards_[t] = placements_[t].Shard(position, table.rows, table.dim);
    local_index_[t] = static_cast<int>(specs.size());
    specs.push_back({table.name, shards_[t].rows, shards_[t].columns, table.trainable, table.dim});
  }
  std::vector<std::vector<ServedLookup>> served(group_.world_size());
  std::vector<FeatureSpec> features;
  for (size_t l = 0; l < plan_.lookups.size(); ++l) {
    const auto& lookup = plan_.lookups[l];
    const auto& table = plan_.tables[lookup.table];
    const auto& placement = placements_[lookup.table];
    if (placement.dense()) continue;
    fused_lookups_.push_back(static_cast<int>(l));
    for (size_t position = 0; position < placement.ranks.size(); ++position) {
      const int r = placement.ranks[position];
      const TableShard shard = placement.Shard(static_cast<int>(position), table.rows, table.dim);
      const bool split_rows = placement.row_blocks() > 1;
      if (r == rank) {
        // A shard of rows sees part of a bag: it sums, and the asking rank divides by the whole bag's length.
        const auto pooling = split_rows ? Pooling::kSum : ToPooling(table.pooling);
        const int64_t column = group_.world_size() == 1 ? lookup.column : served_width_[rank];
        features.push_back({local_index_[lookup.table], pooling, column});
      }
      served[r].push_back({static_cast<int>(l), shard, split_rows});
      served_width_[r] += shard.columns;
    }
  }
  tables_ = MakeCpuTableBatch(std::move(specs), std::move(features), optimizer_, threads);
  exchange_ = std::make_unique<IdExchange>(plan_, std::move(served), group_);
  column_sums_ = std::make_unique<ColumnSums>(placements_, trained, local_index_, group_);
}

void ShardedEmbedding::MakeDenseTables(int threads) {
  std::vector<TableSpec> specs;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (!placements_[t].dense()) continue;
    dense_index_[t] = static_cast<int>(specs.size());
    specs.push_back({plan_.tables[t].name, plan_.tables[t].rows, plan_.tables[t].dim, /*trainable=*/false});
  }
  std::vector<FeatureSpec> features;
  for (size_t l = 0; l < plan_.lookups.size(); ++l) {
    const auto& lookup = plan_.lookups[l];
    if (dense_index_[lookup.table] < 0) continue;
    dense_lookups_.push_back(static_cast<int>(l));
    features.push_back({dense_index_[lookup.table], ToPooling(plan_.tables[lookup.table].pooling), lookup.column});
  }
  dense_batch_ = MakeCpuTableBatch(std::move(specs), std::move(features), OptimizerSpec{}, threads);
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (dense_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    at::Tensor rows = at::from_blob(dense_batch_->weights(dense_index_[t]), {table.rows, table.dim}, at::kFloat);
    dense_tables_.push_back({table.state_name(), rows.set_requires_grad(table.trainable)});
  }
}

void ShardedEmbedding::Initialize(uint64_t seed) {
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    const Initializer initializer(table.init_fn, table.name, table.rows, table.dim);
    if (dense_index_[t] >= 0) initializer.Fill(seed, 0, table.rows, dense_batch_->weights(dense_index_[t]));
    if (local_index_[t] < 0) continue;
    const TableShard& shard = shards_[t];
    if (shard.columns == table.dim) {
      initializer.Fill(seed, shard.row_begin, shard.rows, tables_->weights(local_index_[t]));
      continue;
    }
    std::vector<float> row(table.dim);
    for (int64_t r = 0; r < shard.rows; ++r) {
      initializer.Fill(seed, shard.row_begin + r, 1, row.data());
      std::copy_n(row.begin() + shard.column_begin, shard.columns,
                  tables_->weights(local_index_[t]) + r * shard.columns);
    }
  }
}

at::Tensor ShardedEmbedding::Forward(const data::Batch& batch) {
  batch_ = &batch;
  const at::Tensor pooled = group_.world_size() == 1 ? ForwardLocal(batch) : ForwardExchanged(batch);
  if (!dense_lookups_.empty()) ForwardDense(batch, pooled);
  return pooled;
}

void ShardedEmbedding::ForwardDense(const data::Batch& batch, const at::Tensor& pooled) {
  BagsOf(dense_lookups_, plan_, batch, dense_);
  if (batch.rows > 0) dense_batch_->Forward(dense_, batch.rows, pooled.data_ptr<float>(), plan_.pooled_width);
}

int64_t ShardedEmbedding::global_rows() const { return ids_.global_rows; }

at::Tensor ShardedEmbedding::ForwardLocal(const data::Batch& batch) {
  BagsOf(fused_lookups_, plan_, batch, ids_.jagged);
  ids_.rows = ids_.global_rows = batch.rows;
  at::Tensor pooled = at::empty({batch.rows, plan_.pooled_width}, at::kFloat);
  tables_->Forward(ids_.jagged, batch.rows, pooled.data_ptr<float>(), plan_.pooled_width);
  return pooled;
}

template <typename Action>
void ShardedEmbedding::ForEachPiece(int64_t rows, Action action) const {
  int64_t block = 0;
  for (int r = 0; r < group_.world_size(); ++r) {
    int64_t column = 0;
    for (const ServedLookup& served : exchange_->served()[r]) {
      const auto& lookup = plan_.lookups[served.lookup];
      const bool mean = plan_.tables[lookup.table].pooling == features::Pooling::kMean;
      const int64_t* offsets = batch_->sparse.offsets.data() + lookup.feature * rows;
      action(Piece{served, lookup, offsets, mean && served.split_rows, block + column, served_width_[r]});
      column += served.shard.columns;
    }
    block += rows * served_width_[r];
  }
}

at::Tensor ShardedEmbedding::ForwardExchanged(const data::Batch& batch) {
  exchange_->Run(batch, ids_);
  const int64_t rows = batch.rows, width = served_width_[group_.rank()];
  std::vector<float> looked_up(ids_.global_rows * width);
  if (width > 0) tables_->Forward(ids_.jagged, ids_.global_rows, looked_up.data(), width);
  std::vector<int64_t> send, receive;
  int64_t total = 0;
  for (int r = 0; r < group_.world_size(); ++r) {
    send.push_back(ids_.rows_of_rank[r] * width);
    receive.push_back(rows * served_width_[r]);
    total += receive.back();
  }
  std::vector<float> blocks(total);
  group_.AllToAll(dist::AsTensor(blocks), dist::AsTensor(looked_up), receive, send);

  at::Tensor pooled = at::zeros({rows, plan_.pooled_width}, at::kFloat);
  float* out = pooled.data_ptr<float>();
  ForEachPiece(rows, [&](const Piece& piece) {
    const int64_t columns = piece.served.shard.columns;
    const int64_t target_column = piece.lookup.column + piece.served.shard.column_begin;
    for (int64_t b = 0; b < rows; ++b) {
      const float* source = blocks.data() + piece.offset + b * piece.width;
      float* target = out + b * plan_.pooled_width + target_column;
      const int64_t length = piece.offsets[b + 1] - piece.offsets[b];
      const float scale = piece.divide && length > 0 ? 1.0f / static_cast<float>(length) : 1.0f;
      for (int64_t d = 0; d < columns; ++d) target[d] += source[d] * scale;
    }
  });
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
  if (ids_.rows == 0) return;
  const at::Tensor contiguous = gradient.contiguous();
  dense_batch_->AccumulateGradients(dense_, ids_.rows, contiguous.const_data_ptr<float>(), plan_.pooled_width, out);
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
  const float rate = static_cast<float>(learning_rate);
  const at::Tensor contiguous = gradient.contiguous();
  const float* grad = contiguous.const_data_ptr<float>();
  if (group_.world_size() == 1) {
    tables_->BackwardUpdate(ids_.jagged, ids_.rows, grad, plan_.pooled_width, scale, rate);
    return;
  }
  const int64_t rows = ids_.rows, width = served_width_[group_.rank()];
  const float average = scale / static_cast<float>(group_.world_size());
  const float bound = optimizer_.max_gradient;
  std::vector<int64_t> send, receive;
  int64_t total = 0;
  for (int r = 0; r < group_.world_size(); ++r) {
    send.push_back(rows * served_width_[r]);
    receive.push_back(ids_.rows_of_rank[r] * width);
    total += send.back();
  }
  std::vector<float> blocks(total);
  ForEachPiece(rows, [&](const Piece& piece) {
    const int64_t columns = piece.served.shard.columns;
    const int64_t source_column = piece.lookup.column + piece.served.shard.column_begin;
    for (int64_t b = 0; b < rows; ++b) {
      const float* source = grad + b * plan_.pooled_width + source_column;
      float* target = blocks.data() + piece.offset + b * piece.width;
      const int64_t length = piece.offsets[b + 1] - piece.offsets[b];
      const float divisor = piece.divide && length > 0 ? static_cast<float>(length) : 1.0f;
      for (int64_t d = 0; d < columns; ++d) {
        float g = source[d] * average;
        if (bound > 0) g = std::clamp(g, -bound, bound);  // before the division, as a whole table does it
        target[d] = g / divisor;
      }
    }
  });
  std::vector<float> received(ids_.global_rows * width);
  group_.AllToAll(dist::AsTensor(received), dist::AsTensor(blocks), receive, send);
  AddOverColumnShards add;
  if (column_sums_->needed()) add = [this](std::span<const ShardRowSums> sums) { column_sums_->Add(sums); };
  tables_->BackwardUpdate(ids_.jagged, ids_.global_rows, received.data(), width, 1.0f, rate, add);
}

std::vector<Shard> ShardedEmbedding::weights() {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    const TableShard& held = shards_[t];
    shards.push_back({table.state_name(), tables_->weights(local_index_[t]), table.rows, held.row_begin, held.rows,
                      table.dim, held.column_begin, held.columns});
  }
  return shards;
}

std::vector<Shard> ShardedEmbedding::state() {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    const TableShard& held = shards_[t];
    for (const StateView& view : tables_->state(local_index_[t])) {
      Shard shard{table.state_name() + "//" + table.name + "." + view.name, view.data, table.rows, held.row_begin,
                  held.rows};
      if (view.dim > 0) {
        shard.global_dim = table.dim;
        shard.column_begin = held.column_begin;
        shard.dim = held.columns;
      } else {
        shard.copy = held.column_begin > 0;  // every block of columns keeps the rows' values
      }
      shards.push_back(std::move(shard));
    }
  }
  return shards;
}

int64_t ShardedEmbedding::iteration() const { return tables_->iteration(); }
void ShardedEmbedding::set_iteration(int64_t iteration) { tables_->set_iteration(iteration); }
int64_t ShardedEmbedding::out_of_range() const { return tables_->out_of_range() + dense_batch_->out_of_range(); }

}  // namespace anneal::embedding
