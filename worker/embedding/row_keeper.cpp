#include "worker/embedding/row_keeper.h"

#include <algorithm>
#include <mutex>

namespace anneal::embedding {

RowKeeper::RowKeeper(int64_t rows, std::vector<Part> parts)
    : parts_(std::move(parts)), slots_(rows, ZeroPages<uint32_t>::Pages::kSmall) {
  for (const Part& part : parts_) {
    begins_.push_back(width_);
    width_ += part.width;
  }
}

// A reader copies rows that nobody kept from the table itself. It holds the lock for that, so no row is kept meanwhile,
// and only kept rows are trained.
void RowKeeper::Keep(std::span<const int64_t> rows) {
  const std::unique_lock lock(mutex_);
  for (const int64_t row : rows) {
    if (slots_[row] != 0) continue;
    const size_t at = kept_.size();
    kept_.resize(at + width_);
    for (size_t p = 0; p < parts_.size(); ++p) {
      std::copy_n(parts_[p].values + row * parts_[p].width, parts_[p].width, kept_.data() + at + begins_[p]);
    }
    slots_[row] = static_cast<uint32_t>(kept_.size() / width_);
  }
}

void RowKeeper::Read(int part, int64_t first, int64_t count, float* out) const {
  const auto [values, width] = parts_[part];
  const std::shared_lock lock(mutex_);
  for (const int64_t end = first + count; first < end;) {
    const int64_t row = first / width, column = first % width, n = std::min(width - column, end - first);
    const float* source =
        slots_[row] == 0 ? values + row * width : kept_.data() + (slots_[row] - 1) * width_ + begins_[part];
    out = std::copy_n(source + column, n, out);
    first += n;
  }
}

}  // namespace anneal::embedding
