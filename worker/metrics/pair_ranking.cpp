#include "worker/metrics/pair_ranking.h"

#include <algorithm>
#include <cmath>

namespace anneal::metrics {
namespace {

/// Counts per rank with prefix sums in log time (Fenwick, "A new data structure for cumulative frequency tables").
class CumulativeCounts {
 public:
  explicit CumulativeCounts(size_t size) : tree_(size + 1, 0) {}
  void Add(size_t rank) {
    for (++rank; rank < tree_.size(); rank += rank & (~rank + 1)) ++tree_[rank];
  }
  /// Entries of ranks below `rank`.
  int64_t Below(size_t rank) const {
    int64_t sum = 0;
    for (; rank > 0; rank &= rank - 1) sum += tree_[rank];
    return sum;
  }

 private:
  std::vector<int64_t> tree_;
};

double Pairs(size_t rows) { return 0.5 * static_cast<double>(rows) * (static_cast<double>(rows) - 1); }

/// Rows without a number have no order and are left out.
void KeepRows(const Rows& rows, std::vector<Sample>& samples) {
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    if (std::isnan(rows.predictions[i]) || std::isnan(rows.labels[i])) continue;
    samples.push_back({rows.groups.empty() ? 0 : rows.groups[i], rows.predictions[i], rows.labels[i]});
  }
}

/// Calls fold(rows of a group) for every group and forgets the samples.
template <typename Fold>
void ForEachGroup(std::vector<Sample>& samples, Fold fold) {
  std::stable_sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.group < b.group; });
  for (auto begin = samples.begin(); begin != samples.end();) {
    const auto end = std::find_if(begin, samples.end(), [&](const Sample& s) { return s.group != begin->group; });
    fold(std::span<const Sample>(begin, end));
    begin = end;
  }
  samples.clear();
}

}  // namespace

PairCounts CountPairs(std::span<const Sample> rows) {
  std::vector<float> values;
  for (const Sample& row : rows) values.push_back(row.prediction);
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  std::vector<Sample> sorted(rows.begin(), rows.end());
  std::sort(sorted.begin(), sorted.end(), [](const Sample& a, const Sample& b) { return a.label < b.label; });
  // Rows of smaller labels are in `seen` when a row asks how many of them have a smaller prediction.
  CumulativeCounts seen(values.size());
  PairCounts counts;
  const auto rank = [&](const Sample& row) {
    return static_cast<size_t>(std::lower_bound(values.begin(), values.end(), row.prediction) - values.begin());
  };
  for (size_t begin = 0; begin < sorted.size();) {
    size_t end = begin;
    for (; end < sorted.size() && sorted[end].label == sorted[begin].label; ++end) {
      const size_t at = rank(sorted[end]);
      const int64_t below = seen.Below(at);
      counts.concordant += static_cast<double>(below);
      counts.tied += static_cast<double>(seen.Below(at + 1) - below);
      counts.different += static_cast<double>(begin);
    }
    for (; begin < end; ++begin) seen.Add(rank(sorted[begin]));
  }
  return counts;
}

void GroupedAuc::Update(const Rows& rows) {
  const size_t first = samples_.size();
  KeepRows(rows, samples_);
  for (size_t i = first; i < samples_.size(); ++i) samples_[i].label = samples_[i].label > 0.5f ? 1.0f : 0.0f;
}

void GroupedAuc::FoldSamples() {
  ForEachGroup(samples_, [this](std::span<const Sample> group) {
    const PairCounts counts = CountPairs(group);
    if (counts.different == 0) return;
    state_[0] += (counts.concordant + 0.5 * counts.tied) / counts.different;
    state_[1] += 1;
  });
}

void Xauc::Update(const Rows& rows) {
  KeepRows({rows.predictions, rows.labels, {}}, samples_);  // all rows are one group
  if (!in_batch_) return;
  if (samples_.size() > 1) {
    state_[0] += CountPairs(samples_).concordant / Pairs(samples_.size());
    state_[1] += 1;
  }
  samples_.clear();
}

void Xauc::FoldSamples() {
  state_[0] += CountPairs(samples_).concordant;
  state_[1] += Pairs(samples_.size());
  samples_.clear();
}

void GroupedXauc::Update(const Rows& rows) { KeepRows(rows, samples_); }

void GroupedXauc::FoldSamples() {
  ForEachGroup(samples_, [this](std::span<const Sample> group) {
    if (group.size() < 2) return;
    const double size = static_cast<double>(group.size());
    state_[0] += size * CountPairs(group).concordant / Pairs(group.size());
    state_[1] += size;
  });
}

}  // namespace anneal::metrics
