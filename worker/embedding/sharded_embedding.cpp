#include "worker/embedding/sharded_embedding.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "worker/embedding/fbgemm_tables.h"
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
  int64_t served_columns = 0;  // by this rank
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
        const int64_t column = group_.world_size() == 1 ? lookup.column : served_columns;
        features.push_back({local_index_[lookup.table], pooling, column});
        served_columns += shard.columns;
      }
      served[r].push_back({static_cast<int>(l), shard, split_rows});
    }
  }
  tables_ = MakeTableBatch(std::move(specs), std::move(features), optimizer_, threads, group_.device());
  exchange_ = std::make_unique<IdExchange>(plan_, std::move(served), group_);
  pieces_ = std::make_unique<PooledPieces>(plan_, exchange_->served());
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
  dense_batch_ = MakeTableBatch(std::move(specs), std::move(features), OptimizerSpec{}, threads, group_.device());
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (dense_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    at::Tensor rows = at::from_blob(dense_batch_->weights(dense_index_[t]), {table.rows, table.dim}, Options());
    dense_tables_.push_back({table.state_name(), rows.set_requires_grad(table.trainable)});
  }
}

void ShardedEmbedding::Initialize(uint64_t seed) {
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    const Initializer initializer(table.init_fn, table.name, table.rows, table.dim);
    if (dense_index_[t] >= 0) {
      FillRows(dense_batch_->weights(dense_index_[t]), table.rows, table.dim,
               [&](float* rows) { initializer.Fill(seed, 0, table.rows, rows); });
    }
    if (local_index_[t] < 0) continue;
    const TableShard& shard = shards_[t];
    FillRows(tables_->weights(local_index_[t]), shard.rows, shard.columns, [&](float* rows) {
      if (shard.columns == table.dim) return initializer.Fill(seed, shard.row_begin, shard.rows, rows);
      std::vector<float> row(table.dim);
      for (int64_t r = 0; r < shard.rows; ++r) {
        initializer.Fill(seed, shard.row_begin + r, 1, row.data());
        std::copy_n(row.begin() + shard.column_begin, shard.columns, rows + r * shard.columns);
      }
    });
  }
}

// `fill` writes host memory; on another device the rows are copied there.
void ShardedEmbedding::FillRows(float* rows, int64_t count, int64_t columns, const std::function<void(float*)>& fill) {
  if (group_.device().is_cpu()) return fill(rows);
  at::Tensor host = at::empty({count, columns}, at::kFloat);
  fill(host.data_ptr<float>());
  at::from_blob(rows, {count, columns}, Options()).copy_(host);
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
  at::Tensor pooled = at::empty({batch.rows, plan_.pooled_width}, Options());
  tables_->Forward(ids_.jagged, batch.rows, pooled.data_ptr<float>(), plan_.pooled_width);
  return pooled;
}

void ShardedEmbedding::Prefetch(const data::Batch& batch) {
  if (!ahead_) {
    auto beside = group_.Beside();
    if (!beside) return;
    ahead_ = std::make_unique<Ahead>(std::move(beside), plan_, exchange_->served());
  }
  DropPrefetch();
  ahead_->batch = &batch;
  ahead_->done = std::async(std::launch::async, [this] { ahead_->exchange.Run(*ahead_->batch, ahead_->ids); });
}

void ShardedEmbedding::DropPrefetch() {
  if (ahead_ && ahead_->done.valid()) ahead_->done.get();
}

// False where nothing was prefetched, and where that failed: then the main group fails as well, which names the step
// and the rank to blame.
bool ShardedEmbedding::TakePrefetched(const data::Batch& batch) {
  if (!ahead_ || !ahead_->done.valid() || ahead_->batch != &batch) return false;
  try {
    ahead_->done.get();
  } catch (const std::exception&) {
    return false;
  }
  std::swap(ids_, ahead_->ids);
  return true;
}

at::Tensor ShardedEmbedding::ForwardExchanged(const data::Batch& batch) {
  if (!TakePrefetched(batch)) exchange_->Run(batch, ids_);
  const int64_t width = pieces_->width(group_.rank());
  const at::Tensor looked_up = at::empty({ids_.global_rows * width}, Options());
  if (width > 0) tables_->Forward(ids_.jagged, ids_.global_rows, looked_up.data_ptr<float>(), width);
  const BlockSizes sizes = Sizes();
  const at::Tensor blocks = at::empty({sizes.asked_elements}, Options());
  group_.AllToAll(blocks, looked_up, sizes.asked, sizes.served);
  return pieces_->Join(blocks, batch);
}

ShardedEmbedding::BlockSizes ShardedEmbedding::Sizes() const {
  BlockSizes sizes;
  for (int r = 0; r < group_.world_size(); ++r) {
    sizes.served.push_back(ids_.rows_of_rank[r] * pieces_->width(group_.rank()));
    sizes.asked.push_back(ids_.rows * pieces_->width(r));
    sizes.asked_elements += sizes.asked.back();
  }
  return sizes;
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
  const float average = scale / static_cast<float>(group_.world_size());
  const at::Tensor blocks = pieces_->Split(contiguous, *batch_, average, optimizer_.max_gradient);
  const int64_t width = pieces_->width(group_.rank());
  const at::Tensor received = at::empty({ids_.global_rows * width}, Options());
  const BlockSizes sizes = Sizes();
  group_.AllToAll(received, blocks, sizes.served, sizes.asked);
  AddOverColumnShards add;
  if (column_sums_->needed()) add = [this](std::span<const ShardRowSums> sums) { column_sums_->Add(sums); };
  tables_->BackwardUpdate(ids_.jagged, ids_.global_rows, received.const_data_ptr<float>(), width, 1.0f, rate, add);
}

at::Tensor Shard::tensor() const {
  const auto options = at::TensorOptions().device(device).dtype(at::kFloat);
  return dim > 0 ? at::from_blob(data, {rows, dim}, options) : at::from_blob(data, {rows}, options);
}

std::vector<Shard> ShardedEmbedding::weights() {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    const TableShard& held = shards_[t];
    shards.push_back({table.state_name(), tables_->weights(local_index_[t]), table.rows, held.row_begin, held.rows,
                      table.dim, held.column_begin, held.columns, /*copy=*/false, group_.device(), local_index_[t]});
  }
  return shards;
}

std::vector<Shard> ShardedEmbedding::state() {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    const TableShard& held = shards_[t];
    int part = 0;
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
      shard.device = group_.device();
      shard.table = local_index_[t];
      shard.part = ++part;
      shards.push_back(std::move(shard));
    }
  }
  return shards;
}

int64_t ShardedEmbedding::iteration() const { return tables_->iteration(); }
void ShardedEmbedding::set_iteration(int64_t iteration) { tables_->set_iteration(iteration); }
int64_t ShardedEmbedding::out_of_range() const { return tables_->out_of_range() + dense_batch_->out_of_range(); }

}  // namespace anneal::embedding
