#include "worker/train/summary/histogram.h"

#include <algorithm>
#include <cmath>

namespace anneal::train {
namespace {

const std::vector<double>& Edges() {
  static const std::vector<double> edges = [] {
    std::vector<double> positive, all;
    for (double v = 1e-12; v < 1e20; v *= 1.1) positive.push_back(v);
    for (size_t i = positive.size(); i-- > 0;) all.push_back(-positive[i]);
    all.push_back(0);
    all.insert(all.end(), positive.begin(), positive.end());
    return all;
  }();
  return edges;
}

}  // namespace

Histogram MakeHistogram(std::span<const float> values) {
  const auto& edges = Edges();
  std::vector<double> counts(edges.size() - 1, 0);
  Histogram histogram;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const double v = value;
    histogram.min = histogram.count == 0 ? v : std::min(histogram.min, v);
    histogram.max = histogram.count == 0 ? v : std::max(histogram.max, v);
    histogram.count += 1;
    histogram.sum += v;
    histogram.sum_of_squares += v * v;
    const auto above = std::upper_bound(edges.begin(), edges.end(), v) - edges.begin();
    if (above > 0 && above < static_cast<std::ptrdiff_t>(edges.size())) counts[above - 1] += 1;
  }
  const auto filled = [](double count) { return count > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), filled);
  if (first == counts.end()) return histogram;
  const auto begin = first - counts.begin();
  const auto end = counts.rend() - std::find_if(counts.rbegin(), counts.rend(), filled);
  histogram.counts.push_back(begin > 0 ? counts[begin - 1] : 0);
  histogram.counts.insert(histogram.counts.end(), counts.begin() + begin, counts.begin() + end);
  histogram.limits.assign(edges.begin() + begin, edges.begin() + end + 1);
  return histogram;
}

}  // namespace anneal::train
