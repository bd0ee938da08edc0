// Rows of sharded tables, brought together whole and each once, however the tables are sharded: every row comes to the
// rank that holds its first column, a row of a data-parallel table to rank 0.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"

namespace anneal::embedding {

struct CollectedRows {
  std::vector<int64_t> rows;  ///< ascending, numbered in the whole table
  std::vector<float> values;  ///< [rows, dim of the table] row-major
};

class RowCollector {
 public:
  RowCollector(const models::EmbeddingPlan& plan, ShardedEmbedding& tables, dist::ProcessGroup& group)
      : plan_(plan), tables_(tables), group_(group) {}

  /// The rows of a table that any rank asks for, as they are now, of those that come to this rank. Collective.
  CollectedRows Collect(int table, const std::vector<int64_t>& asked);

 private:
  std::vector<int64_t> Exchange(int table, const std::vector<int64_t>& asked);
  std::vector<float> Read(int table, const std::vector<int64_t>& rows);
  void JoinColumns(int table, CollectedRows& collected);

  const models::EmbeddingPlan& plan_;
  ShardedEmbedding& tables_;
  dist::ProcessGroup& group_;
};

}  // namespace anneal::embedding
