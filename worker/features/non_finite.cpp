#include "worker/features/non_finite.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <mutex>
#include <set>

#include "worker/train/progress/log.h"

namespace anneal::features {
namespace {

bool IsNonFinite(float value) { return !std::isfinite(value); }

/// Features that have been warned of.
class Told {
 public:
  bool Has(const std::string& feature) {
    const std::lock_guard lock(mutex_);
    return features_.contains(feature);
  }
  /// False when it was in already.
  bool Add(const std::string& feature) {
    const std::lock_guard lock(mutex_);
    return features_.insert(feature).second;
  }

 private:
  std::mutex mutex_;
  std::set<std::string> features_;
};

Told& ToldInProcess() {
  static Told told;
  return told;
}

/// values(i) are those of row i of the slices.
template <typename ValuesOf>
void Warn(const std::string& feature, std::span<const data::RowSlice> slices, ValuesOf&& values) {
  if (ToldInProcess().Has(feature)) return;
  int64_t i = 0;
  for (const data::RowSlice& slice : slices) {
    for (int64_t row = 0; row < slice.count; ++row, ++i) {
      const std::span<const float> of_row = values(i);
      const auto bad = std::find_if(of_row.begin(), of_row.end(), IsNonFinite);
      if (bad == of_row.end()) continue;
      if (!ToldInProcess().Add(feature)) return;
      LogWarning("feature " + feature + ": " + data::Where(slice, row) + ": a value is " +
                 (std::isnan(*bad) ? "NaN" : "infinite") +
                 ", which goes into the model as it is; further ones of this feature are not told of");
      return;
    }
  }
}

}  // namespace

bool AnyNonFinite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000;  // all ones in these bits
  constexpr size_t kAtOnce = 16;              // a loop that compilers turn into vector instructions
  size_t i = 0;
  for (; i + kAtOnce <= values.size(); i += kAtOnce) {
    uint32_t bad = 0;
    for (size_t k = 0; k < kAtOnce; ++k) bad |= (std::bit_cast<uint32_t>(values[i + k]) & kExponent) == kExponent;
    if (bad != 0) return true;
  }
  return std::any_of(values.begin() + static_cast<std::ptrdiff_t>(i), values.end(), IsNonFinite);
}

void WarnOfNonFinite(const std::string& feature, std::span<const data::RowSlice> slices, const float* values,
                     int64_t dim, int64_t stride) {
  Warn(feature, slices, [&](int64_t i) { return std::span<const float>(values + i * stride, dim); });
}

void WarnOfNonFinite(const std::string& feature, std::span<const data::RowSlice> slices,
                     const data::DenseSequence& sequence, int64_t dim) {
  Warn(feature, slices, [&](int64_t i) {
    const int64_t begin = sequence.offsets[i] * dim, end = sequence.offsets[i + 1] * dim;
    return std::span<const float>(sequence.values.data() + begin, end - begin);
  });
}

}  // namespace anneal::features
