// Which slot of a step's dense buffer holds the gradient of a table's row.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace anneal::embedding {

/// Open addressing, at most half full. As large as the ids of a step need and not as the table: it stays in the cache
/// where a mark beside each of a large table's rows would be a miss for each id.
class SlotMap {
 public:
  /// Forgets everything and makes room for up to `count` rows of [first, last).
  void Clear(size_t count, int64_t first, int64_t last) {
    first_ = first;
    const size_t capacity = std::bit_ceil(std::max<size_t>(2 * count, 2));
    const auto range = static_cast<size_t>(last - first);
    direct_ = range <= capacity;
    const size_t used = direct_ ? range : capacity;
    mask_ = capacity - 1;
    shift_ = 64 - std::countr_zero(capacity);
    if (entries_.size() < used) entries_.resize(used);
    std::memset(entries_.data(), 0, used * sizeof(uint32_t));
  }

  /// One more than the slot of `row`; 0, to be set by the caller, when it has none yet. `rows`: the row of each slot.
  uint32_t& Find(int64_t row, const std::vector<int64_t>& rows) {
    for (size_t at = Home(row);; at = (at + 1) & mask_) {
      uint32_t& entry = entries_[at];
      if (entry == 0 || rows[entry - 1] == row) return entry;
    }
  }

 private:
  /// Fibonacci hashing; with room for the whole range each row has an entry of its own.
  size_t Home(int64_t row) const {
    return direct_ ? static_cast<size_t>(row - first_) : (static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15u) >> shift_;
  }

  std::vector<uint32_t> entries_;
  size_t mask_ = 0;
  int shift_ = 64;
  int64_t first_ = 0;
  bool direct_ = false;
};

}  // namespace anneal::embedding
