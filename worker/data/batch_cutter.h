// Cuts a worker's rows into batches (parity/data.md 3, items 1 and 2).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/data/dataset.h"

namespace anneal::data {

/// Batches run across record batches, row groups and files; only their edges are moved, no row is copied.
class BatchCutter {
 public:
  /// `reader` has to outlive the cutter. `drop_remainder`: rows that do not fill a last batch are dropped.
  BatchCutter(RowReader& reader, int64_t batch_size, bool drop_remainder);

  /// Sets `slices` to the rows of the next batch, in order. False at the end.
  bool Next(std::vector<RowSlice>* slices);

 private:
  RowReader& reader_;
  int64_t batch_size_;
  bool drop_remainder_;
  RowSlice rest_;  ///< read, not yet in a batch
};

}  // namespace anneal::data
