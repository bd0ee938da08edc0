// Weighted draws in constant time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace anneal::data {

/// Walker's alias method as Vose builds it (https://doi.org/10.1109/32.92917): every number shares its slot with at
/// most one other.
class AliasTable {
 public:
  /// Weights are finite and at least 0, one of them more; fewer than 2^31.
  explicit AliasTable(std::span<const float> weights);

  /// A number with the probability of its weight, made from 64 random bits. One that weighs 0 never comes.
  int64_t Draw(uint64_t random) const;

 private:
  std::vector<uint64_t> keep_;  ///< of 2^64: how often a slot gives its own number
  std::vector<int32_t> other_;
};

/// A number in [0, count) from 64 random bits.
inline int64_t Below(int64_t count, uint64_t random) {
  return static_cast<int64_t>((static_cast<unsigned __int128>(random) * static_cast<uint64_t>(count)) >> 64);
}

}  // namespace anneal::data
