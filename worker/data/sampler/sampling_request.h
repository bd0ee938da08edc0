// The batch that a sampler draws for.
#pragma once

#include <cstdint>
#include <random>
#include <span>

namespace anneal::data {

/// Ids are numbers as ReadNodeId makes them.
struct SamplingRequest {
  std::span<const int64_t> items;  ///< the positives: item_id_field of every row, at least one
  std::span<const int64_t> users;  ///< user_id_field of every row; empty for samplers that ask for no users
  // What makes a batch another one than all others of a run. The same draws follow from the same numbers.
  uint64_t seed = 0;
  int rank = 0;
  int worker = 0;      ///< reader thread of the rank
  int64_t pass = 0;    ///< over the data
  int64_t number = 0;  ///< of the batch, among those that its worker reads in the pass

  /// The random numbers of the batch.
  std::mt19937_64 Random() const;
};

}  // namespace anneal::data
