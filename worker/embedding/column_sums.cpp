#include "worker/embedding/column_sums.h"

#include <algorithm>
#include <map>

#include "worker/dist/vector_tensor.h"

namespace anneal::embedding {

ColumnSums::ColumnSums(const std::vector<TablePlacement>& placements, const std::vector<bool>& trained,
                       const std::vector<int>& local_index, dist::ProcessGroup& group)
    : group_(group) {
  for (size_t t = 0; t < placements.size(); ++t) {
    const TablePlacement& placement = placements[t];
    if (!trained[t] || placement.dense() || placement.column_blocks == 1) continue;
    const int row_blocks = placement.row_blocks();
    for (int row = 0; row < row_blocks; ++row) {
      for (int from = 0; from < placement.column_blocks; ++from) {
        for (int to = 0; to < placement.column_blocks; ++to) {
          if (from == to) continue;
          links_.push_back({placement.ranks[from * row_blocks + row], placement.ranks[to * row_blocks + row],
                            local_index[t], from, to});
        }
      }
    }
    if (local_index[t] < 0) continue;
    own_column_.resize(std::max<size_t>(own_column_.size(), local_index[t] + 1), 0);
    own_column_[local_index[t]] = placement.PositionOf(group.rank()) / row_blocks;
  }
}

void ColumnSums::Add(std::span<const ShardRowSums> sums) {
  const int me = group_.rank(), ranks = group_.world_size();
  std::map<int, std::span<float>> mine;
  for (const auto& entry : sums) mine[entry.table] = entry.sums;
  std::vector<int64_t> send(ranks, 0), receive(ranks, 0);
  std::vector<float> out, in;
  for (int r = 0; r < ranks; ++r) {
    for (const Link& link : links_) {
      if (link.from != me || link.to != r) continue;
      const auto numbers = mine.at(link.table);
      out.insert(out.end(), numbers.begin(), numbers.end());
      send[r] += static_cast<int64_t>(numbers.size());
    }
  }
  for (const Link& link : links_) {
    if (link.to == me) receive[link.from] += static_cast<int64_t>(mine.at(link.table).size());
  }
  for (const int64_t count : receive) in.resize(in.size() + count);
  group_.AllToAll(dist::AsTensor(in), dist::AsTensor(out), receive, send);

  // Where each block of columns' numbers of each table came in.
  std::map<int, std::map<int, const float*>> parts;
  const float* at = in.data();
  for (int r = 0; r < ranks; ++r) {
    for (const Link& link : links_) {
      if (link.from != r || link.to != me) continue;
      parts[link.table][link.from_column] = at;
      at += mine.at(link.table).size();
    }
  }
  for (auto& [table, columns] : parts) {
    std::span<float> total = mine.at(table);
    const std::vector<float> own(total.begin(), total.end());
    columns[own_column_[table]] = own.data();
    std::fill(total.begin(), total.end(), 0.0f);
    for (const auto& [column, numbers] : columns) {
      for (size_t i = 0; i < total.size(); ++i) total[i] += numbers[i];
    }
  }
}

}  // namespace anneal::embedding
