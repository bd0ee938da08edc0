#include "worker/features/derived/key_index.h"

#include <bit>
#include <functional>

namespace anneal::features {

int64_t KeyIndex::Find(std::string_view key) {
  constexpr int64_t kFewKeys = 16, kFewFinds = 3;
  if (!hashed_ && (range_.size() <= kFewKeys || ++finds_ <= kFewFinds)) {
    for (int64_t at = range_.begin; at < range_.end; ++at) {
      if (keys_[at] == key) return at;
    }
    return -1;
  }
  if (!hashed_) Hash();
  for (size_t slot = std::hash<std::string_view>()(key);; ++slot) {
    const int64_t at = slots_[slot & (slots_.size() - 1)];
    if (at < 0 || keys_[at] == key) return at;
  }
}

void KeyIndex::Hash() {
  slots_.assign(std::bit_ceil(static_cast<size_t>(range_.size()) * 2), -1);
  for (int64_t at = range_.begin; at < range_.end; ++at) {
    size_t slot = std::hash<std::string_view>()(keys_[at]) & (slots_.size() - 1);
    while (slots_[slot] >= 0 && keys_[slots_[slot]] != keys_[at]) slot = (slot + 1) & (slots_.size() - 1);
    if (slots_[slot] < 0) slots_[slot] = at;
  }
  hashed_ = true;
}

}  // namespace anneal::features
