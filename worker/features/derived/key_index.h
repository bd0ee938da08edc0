// Finds keys among those of one cell of pairs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "worker/features/arrow_column.h"

namespace anneal::features {

/// Searches one key after the other until it pays to hash them. Used again for cell after cell, it allocates nothing.
class KeyIndex {
 public:
  /// From here on Find searches these keys, which have to stay where they are.
  void Use(const std::vector<std::string_view>& keys, CellRange range) {
    keys_ = keys.data();
    range_ = range;
    finds_ = 0;
    hashed_ = false;
  }

  /// Position of the first such key; -1: there is none.
  int64_t Find(std::string_view key);

 private:
  void Hash();

  const std::string_view* keys_ = nullptr;
  CellRange range_;
  int64_t finds_ = 0;
  bool hashed_ = false;
  std::vector<int64_t> slots_;  ///< open addressing; positions, -1: free
};

}  // namespace anneal::features
