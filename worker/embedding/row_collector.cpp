#include "worker/embedding/row_collector.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "worker/dist/vector_tensor.h"

namespace anneal::embedding {

CollectedRows RowCollector::Collect(int table, const std::vector<int64_t>& asked) {
  CollectedRows collected;
  collected.rows = group_.world_size() == 1 ? asked : Exchange(table, asked);
  collected.values = Read(table, collected.rows);
  if (tables_.placements()[table].column_blocks > 1) JoinColumns(table, collected);
  return collected;
}

// The rows of this rank's shard that somebody asks for.
std::vector<int64_t> RowCollector::Exchange(int table, const std::vector<int64_t>& asked) {
  const auto& placement = tables_.placements()[table];
  const int ranks = group_.world_size();
  std::vector<std::vector<int64_t>> of_rank(ranks);
  if (placement.dense()) {
    of_rank[0] = asked;
  } else {
    for (size_t position = 0; position < placement.ranks.size(); ++position) {
      const auto shard = placement.Shard(static_cast<int>(position), plan_.tables[table].rows, plan_.tables[table].dim);
      const auto first = std::lower_bound(asked.begin(), asked.end(), shard.row_begin);
      of_rank[placement.ranks[position]].assign(first,
                                                std::lower_bound(first, asked.end(), shard.row_begin + shard.rows));
    }
  }
  std::vector<int64_t> sent, sent_counts, counts(ranks);
  for (const auto& rows : of_rank) {
    sent.insert(sent.end(), rows.begin(), rows.end());
    sent_counts.push_back(static_cast<int64_t>(rows.size()));
  }
  const std::vector<int64_t> one_each(ranks, 1);
  group_.AllToAll(dist::AsTensor(counts), dist::AsTensor(sent_counts), one_each, one_each);
  std::vector<int64_t> rows(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  group_.AllToAll(dist::AsTensor(rows), dist::AsTensor(sent), counts, sent_counts);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

// The columns of those rows that this rank holds.
std::vector<float> RowCollector::Read(int table, const std::vector<int64_t>& rows) {
  if (rows.empty()) return {};
  const std::string name = plan_.tables[table].state_name();
  at::Tensor held;
  int64_t row_begin = 0;
  for (const auto& dense : tables_.dense_tables()) {
    if (dense.name == name) held = dense.tensor.detach();
  }
  for (const Shard& shard : tables_.weights()) {
    if (shard.name != name) continue;
    held = shard.tensor();
    row_begin = shard.row_begin;
  }
  const at::Tensor index = at::tensor(rows, at::kLong).sub_(row_begin);
  std::vector<float> values(rows.size() * held.size(1));
  dist::AsTensor(values).view({-1, held.size(1)}).copy_(held.index_select(0, index.to(held.device())));
  return values;
}

// The ranks that hold other columns of the same rows were asked for the same ones.
void RowCollector::JoinColumns(int table, CollectedRows& collected) {
  const auto& placement = tables_.placements()[table];
  const auto& whole = plan_.tables[table];
  const auto count = static_cast<int64_t>(collected.rows.size());
  const int position = placement.PositionOf(group_.rank()), row_blocks = placement.row_blocks();
  const bool first = position >= 0 && position < row_blocks;
  std::vector<int64_t> sent(group_.world_size(), 0), received(group_.world_size(), 0);
  if (position >= 0) {
    sent[placement.ranks[position % row_blocks]] = static_cast<int64_t>(collected.values.size());
  }
  if (first) {
    for (int p = position; p < static_cast<int>(placement.ranks.size()); p += row_blocks) {
      received[placement.ranks[p]] = count * placement.Shard(p, whole.rows, whole.dim).columns;
    }
  }
  std::vector<float> blocks(std::accumulate(received.begin(), received.end(), int64_t{0}));
  group_.AllToAll(dist::AsTensor(blocks), dist::AsTensor(collected.values), received, sent);
  if (!first) {
    collected = {};
    return;
  }
  collected.values.resize(count * whole.dim);
  std::vector<int64_t> begin(group_.world_size() + 1, 0);
  std::partial_sum(received.begin(), received.end(), begin.begin() + 1);
  for (int p = position; p < static_cast<int>(placement.ranks.size()); p += row_blocks) {
    const auto shard = placement.Shard(p, whole.rows, whole.dim);
    const float* block = blocks.data() + begin[placement.ranks[p]];
    for (int64_t row = 0; row < count; ++row) {
      std::copy_n(block + row * shard.columns, shard.columns,
                  collected.values.data() + row * whole.dim + shard.column_begin);
    }
  }
}

}  // namespace anneal::embedding
