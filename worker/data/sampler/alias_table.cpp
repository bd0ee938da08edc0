#include "worker/data/sampler/alias_table.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace anneal::data {

AliasTable::AliasTable(std::span<const float> weights) : keep_(weights.size()), other_(weights.size()) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double scale = static_cast<double>(weights.size()) / total;
  std::vector<double> share(weights.size());  // of its own slot
  std::vector<int32_t> small, large;
  for (size_t i = 0; i < weights.size(); ++i) {
    share[i] = weights[i] * scale;
    (share[i] < 1 ? small : large).push_back(static_cast<int32_t>(i));
  }
  while (!small.empty() && !large.empty()) {
    const int32_t low = small.back(), high = large.back();
    small.pop_back();
    keep_[low] = static_cast<uint64_t>(std::ldexp(share[low], 64));
    other_[low] = high;
    share[high] -= 1 - share[low];
    if (share[high] < 1) {
      large.pop_back();
      small.push_back(high);
    }
  }
  // What is left has its slot for itself, up to rounding; but one that weighs 0 gives its slot away.
  const auto heaviest = static_cast<int32_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
  for (const auto* rest : {&small, &large}) {
    for (const int32_t i : *rest) {
      keep_[i] = weights[i] > 0 ? UINT64_MAX : 0;
      other_[i] = weights[i] > 0 ? i : heaviest;
    }
  }
}

int64_t AliasTable::Draw(uint64_t random) const {
  const auto product = static_cast<unsigned __int128>(random) * keep_.size();
  const auto slot = static_cast<size_t>(product >> 64);
  return static_cast<uint64_t>(product) < keep_[slot] ? static_cast<int64_t>(slot) : other_[slot];
}

}  // namespace anneal::data
