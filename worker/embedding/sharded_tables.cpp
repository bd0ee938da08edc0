#include "worker/embedding/sharded_tables.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/embedding/fbgemm_tables.h"
#include "worker/embedding/initializer.h"

namespace anneal::embedding {
namespace {

Pooling ToPooling(features::Pooling pooling) {
  return pooling == features::Pooling::kMean ? Pooling::kMean : Pooling::kSum;
}

/// The bags of some lookups of this rank's own input.
void BagsOf(const std::vector<int>& lookups, const LookupInput& input, std::vector<Jagged>& bags) {
  bags.clear();
  for (const int l : lookups) bags.push_back(input.lookups[l]);
}

}  // namespace

ShardedTables::ShardedTables(const models::EmbeddingPlan& plan, LookupKind kind,
                             const std::vector<TablePlacement>& placements, const OptimizerSpec& optimizer,
                             dist::ProcessGroup& group, int threads)
    : plan_(plan),
      kind_(kind),
      width_(kind == LookupKind::kPooled ? plan.pooled_width : plan.element_width),
      weighted_(plan.weighted && kind == LookupKind::kPooled),
      placements_(placements),
      optimizer_(optimizer),
      group_(group),
      shards_(plan.tables.size()),
      local_index_(plan.tables.size(), -1),
      dense_index_(plan.tables.size(), -1) {
  MakeFusedTables(threads);
  MakeDenseTables(threads);
}

void ShardedTables::MakeFusedTables(int threads) {
  const int rank = group_.rank();
  std::vector<TableSpec> specs;
  std::vector<bool> trained;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    trained.push_back(table.trainable && Mine(table));
    const int position = placements_[t].PositionOf(rank);
    if (!Mine(table) || placements_[t].dense() || position < 0) continue;
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
    if (!Mine(table) || placement.dense()) continue;
    fused_lookups_.push_back(static_cast<int>(l));
    for (size_t position = 0; position < placement.ranks.size(); ++position) {
      const int r = placement.ranks[position];
      const TableShard shard = placement.Shard(static_cast<int>(position), table.rows, table.dim);
      const bool split_rows = placement.row_blocks() > 1;
      if (r == rank) {
        // A shard of rows sees part of a bag: it sums, and the asking rank divides by the whole bag's length.
        const auto pooling = split_rows ? Pooling::kSum : ToPooling(lookup.pooling);
        const int64_t column = group_.world_size() == 1 ? lookup.column : served_columns;
        features.push_back({local_index_[lookup.table], pooling, column});
        served_columns += shard.columns;
      }
      served[r].push_back({static_cast<int>(l), shard, split_rows});
    }
  }
  tables_ = MakeTableBatch(std::move(specs), std::move(features), optimizer_, threads, group_.device());
  exchange_ = std::make_unique<IdExchange>(plan_, std::move(served), weighted_, group_);
  pieces_ = std::make_unique<LookupPieces>(plan_, exchange_->served(), width_);
  column_sums_ = std::make_unique<ColumnSums>(placements_, trained, local_index_, group_);
}

void ShardedTables::MakeDenseTables(int threads) {
  std::vector<TableSpec> specs;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (!Mine(plan_.tables[t]) || !placements_[t].dense()) continue;
    dense_index_[t] = static_cast<int>(specs.size());
    specs.push_back({plan_.tables[t].name, plan_.tables[t].rows, plan_.tables[t].dim, /*trainable=*/false});
  }
  std::vector<FeatureSpec> features;
  for (size_t l = 0; l < plan_.lookups.size(); ++l) {
    const auto& lookup = plan_.lookups[l];
    if (dense_index_[lookup.table] < 0) continue;
    dense_lookups_.push_back(static_cast<int>(l));
    features.push_back({dense_index_[lookup.table], ToPooling(lookup.pooling), lookup.column});
  }
  dense_batch_ = MakeTableBatch(std::move(specs), std::move(features), OptimizerSpec{}, threads, group_.device());
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (dense_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    at::Tensor rows = at::from_blob(dense_batch_->weights(dense_index_[t]), {table.rows, table.dim}, Options());
    dense_tables_.push_back({table.state_name(), rows.set_requires_grad(table.trainable)});
  }
}

void ShardedTables::Initialize(uint64_t seed) {
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    const auto& table = plan_.tables[t];
    if (!Mine(table)) continue;
    const Initializer initializer(table.init_fn, table.unique_name(), table.rows, table.dim);
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
void ShardedTables::FillRows(float* rows, int64_t count, int64_t columns, const std::function<void(float*)>& fill) {
  if (group_.device().is_cpu()) return fill(rows);
  at::Tensor host = at::empty({count, columns}, at::kFloat);
  fill(host.data_ptr<float>());
  at::from_blob(rows, {count, columns}, Options()).copy_(host);
}

IdExchange ShardedTables::MakeExchange(dist::ProcessGroup& group) const {
  return IdExchange(plan_, exchange_->served(), weighted_, group);
}

at::Tensor ShardedTables::Forward(const LookupInput& input, ExchangedIds* arrived) {
  input_ = &input;
  const at::Tensor found = group_.world_size() == 1 ? ForwardLocal() : ForwardExchanged(arrived);
  if (dense_lookups_.empty()) return found;
  BagsOf(dense_lookups_, input, dense_);
  if (input.rows > 0) dense_batch_->Forward(dense_, input.rows, found.data_ptr<float>(), width_);
  return found;
}

at::Tensor ShardedTables::ForwardLocal() {
  BagsOf(fused_lookups_, *input_, ids_.jagged);
  ids_.rows = ids_.global_rows = input_->rows;
  at::Tensor found = at::empty({input_->rows, width_}, Options());
  tables_->Forward(ids_.jagged, input_->rows, found.data_ptr<float>(), width_);
  return found;
}

at::Tensor ShardedTables::ForwardExchanged(ExchangedIds* arrived) {
  if (arrived) {
    std::swap(ids_, *arrived);
  } else {
    exchange_->Run(*input_, ids_);
  }
  const int64_t width = pieces_->width(group_.rank());
  const at::Tensor looked_up = at::empty({ids_.global_rows * width}, Options());
  if (width > 0) tables_->Forward(ids_.jagged, ids_.global_rows, looked_up.data_ptr<float>(), width);
  const BlockSizes sizes = Sizes();
  const at::Tensor blocks = at::empty({sizes.asked_elements}, Options());
  group_.AllToAll(blocks, looked_up, sizes.asked, sizes.served);
  return pieces_->Join(blocks, *input_);
}

ShardedTables::BlockSizes ShardedTables::Sizes() const {
  BlockSizes sizes;
  for (int r = 0; r < group_.world_size(); ++r) {
    sizes.served.push_back(ids_.rows_of_rank[r] * pieces_->width(group_.rank()));
    sizes.asked.push_back(ids_.rows * pieces_->width(r));
    sizes.asked_elements += sizes.asked.back();
  }
  return sizes;
}

void ShardedTables::AccumulateDenseGradients(const at::Tensor& gradient) {
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
  dense_batch_->AccumulateGradients(dense_, ids_.rows, contiguous.const_data_ptr<float>(), width_, out);
}

void ShardedTables::BackwardUpdate(const at::Tensor& gradient, float rate, float scale) {
  const at::Tensor contiguous = gradient.contiguous();
  const float* grad = contiguous.const_data_ptr<float>();
  if (group_.world_size() == 1) {
    tables_->BackwardUpdate(ids_.jagged, ids_.rows, grad, width_, scale, rate);
    return;
  }
  const float average = scale / static_cast<float>(group_.world_size());
  const at::Tensor blocks = pieces_->Split(contiguous, *input_, average, optimizer_.max_gradient);
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

std::vector<Shard> ShardedTables::weights(int first) {
  std::vector<Shard> shards;
  for (size_t t = 0; t < plan_.tables.size(); ++t) {
    if (local_index_[t] < 0) continue;
    const auto& table = plan_.tables[t];
    const TableShard& held = shards_[t];
    shards.push_back({table.state_name(), tables_->weights(local_index_[t]), table.rows, held.row_begin, held.rows,
                      table.dim, held.column_begin, held.columns, /*copy=*/false, group_.device(),
                      first + local_index_[t], /*part=*/0, kind_});
  }
  return shards;
}

std::vector<Shard> ShardedTables::state(int first) {
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
      shard.table = first + local_index_[t];
      shard.part = ++part;
      shard.kind = kind_;
      shards.push_back(std::move(shard));
    }
  }
  return shards;
}

}  // namespace anneal::embedding
