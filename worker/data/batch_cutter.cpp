#include "worker/data/batch_cutter.h"

#include <algorithm>

namespace anneal::data {

BatchCutter::BatchCutter(RowReader& reader, int64_t batch_size, bool drop_remainder)
    : reader_(reader), batch_size_(batch_size), drop_remainder_(drop_remainder) {}

bool BatchCutter::Next(std::vector<RowSlice>* slices) {
  slices->clear();
  int64_t missing = batch_size_;
  while (missing > 0) {
    if (rest_.count == 0 && !reader_.Next(&rest_)) break;
    RowSlice& part = slices->emplace_back(rest_);
    part.count = std::min(rest_.count, missing);
    missing -= part.count;
    rest_.begin += part.count;
    rest_.row_in_file += part.count;
    rest_.position += part.count;
    rest_.count -= part.count;
  }
  if (missing > 0 && drop_remainder_) slices->clear();
  return !slices->empty();
}

}  // namespace anneal::data
