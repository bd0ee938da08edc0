// kv_dot_product: two sets of keys with weights (parity/features.md 4.15).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace anneal::features {

struct KeyValue {
  std::string_view key;
  double value = 1;
  int64_t place = 0;  ///< in its set, which tells the first of equal keys
};

/// The sum over common keys of value times value. Of a key that is there several times the first value counts.
/// Sorts both by key.
double DotProduct(std::vector<KeyValue>& query, std::vector<KeyValue>& document);

}  // namespace anneal::features
