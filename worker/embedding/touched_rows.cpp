#include "worker/embedding/touched_rows.h"

#include <algorithm>
#include <bit>

namespace anneal::embedding {

TouchedRows::TouchedRows(const models::EmbeddingPlan& plan) : plan_(plan) {
  for (const auto& table : plan_.tables) bits_.emplace_back(table.trainable ? (table.rows + 63) / 64 : 0);
}

void TouchedRows::Add(const data::Batch& batch) {
  if (batch.rows == 0) return;
  for (const auto& lookup : plan_.lookups) {
    auto& bits = bits_[lookup.table];
    if (bits.empty()) continue;
    const int64_t rows = plan_.tables[lookup.table].rows;
    const int64_t* offsets = batch.sparse.offsets.data() + lookup.feature * batch.rows;
    for (int64_t i = offsets[0]; i < offsets[batch.rows]; ++i) {
      const int64_t id = batch.sparse.values[i], row = id < 0 || id >= rows ? 0 : id;
      bits[row / 64] |= uint64_t{1} << (row % 64);
    }
  }
}

void TouchedRows::Add(int table, std::span<const int64_t> rows) {
  for (const int64_t row : rows) bits_[table][row / 64] |= uint64_t{1} << (row % 64);
}

void TouchedRows::Clear() {
  for (auto& bits : bits_) std::fill(bits.begin(), bits.end(), 0);
}

std::vector<int64_t> TouchedRows::rows(int table) const {
  std::vector<int64_t> rows;
  for (size_t word = 0; word < bits_[table].size(); ++word) {
    for (uint64_t left = bits_[table][word]; left != 0; left &= left - 1) {
      rows.push_back(static_cast<int64_t>(word * 64) + std::countr_zero(left));
    }
  }
  return rows;
}

}  // namespace anneal::embedding
