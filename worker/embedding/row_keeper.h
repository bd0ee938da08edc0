// A table's rows as they were at one moment, while training goes on: a row is copied before it is trained for the first
// time after that moment. Costs a copy per trained row, no copy of the table.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <span>
#include <vector>

#include "worker/embedding/zero_pages.h"

namespace anneal::embedding {

class RowKeeper {
 public:
  /// An array of the table, `width` values a row: weights, a state.
  struct Part {
    const float* values = nullptr;
    int64_t width = 0;
  };

  /// The moment is now. The arrays stay where they are while this lives.
  RowKeeper(int64_t rows, std::vector<Part> parts);

  /// To be called before these rows change. Threads may call it side by side for different rows.
  void Keep(std::span<const int64_t> rows);

  /// Values [first, first + count) of a part as they were. From any thread.
  void Read(int part, int64_t first, int64_t count, float* out) const;

 private:
  const std::vector<Part> parts_;
  std::vector<int64_t> begins_;  ///< of each part in a kept row
  int64_t width_ = 0;            ///< of a kept row
  mutable std::shared_mutex mutex_;
  ZeroPages<uint32_t> slots_;  ///< per row: 1 + its index in kept_, 0 while it is as it was
  std::vector<float> kept_;
};

}  // namespace anneal::embedding
