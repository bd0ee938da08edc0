// Which rows of the trained tables were looked up since the last Clear. Rows are numbered in the whole table, so the
// answer does not depend on the sharding. One bit per row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/data/batch.h"
#include "worker/models/embedding_group.h"

namespace anneal::embedding {

class TouchedRows {
 public:
  explicit TouchedRows(const models::EmbeddingPlan& plan);

  /// The rows that this batch looks up; an id outside its table counts as row 0, which is looked up for it. Frozen
  /// tables have none.
  void Add(const data::Batch& batch);
  /// `rows` are inside the table.
  void Add(int table, std::span<const int64_t> rows);
  void Clear();

  std::vector<int64_t> rows(int table) const;  ///< ascending

 private:
  const models::EmbeddingPlan& plan_;
  std::vector<std::vector<uint64_t>> bits_;  ///< per table of the plan
};

}  // namespace anneal::embedding
