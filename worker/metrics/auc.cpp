#include "worker/metrics/auc.h"

#include <algorithm>
#include <cmath>

namespace anneal::metrics {

BinnedRoc::BinnedRoc(int thresholds) {
  // torch.linspace fills from both ends.
  const float step = 1.0f / static_cast<float>(thresholds - 1);
  for (int i = 0; i < thresholds; ++i) {
    thresholds_.push_back(i < thresholds / 2 ? step * static_cast<float>(i)
                                             : 1.0f - step * static_cast<float>(thresholds - 1 - i));
  }
}

void BinnedRoc::Count(float probability, bool positive, std::span<double> counts) const {
  if (std::isnan(probability)) return;
  const int count = static_cast<int>(thresholds_.size());
  int reached = std::clamp(static_cast<int>(probability * static_cast<float>(count - 1)) + 1, 0, count);
  while (reached < count && probability >= thresholds_[reached]) ++reached;
  while (reached > 0 && probability < thresholds_[reached - 1]) --reached;
  counts[2 * reached + positive] += 1;
}

double BinnedRoc::Area(std::span<const double> counts) const {
  const int count = static_cast<int>(thresholds_.size());
  double positives = 0, negatives = 0;
  for (int n = 0; n <= count; ++n) negatives += counts[2 * n], positives += counts[2 * n + 1];
  if (positives == 0 || negatives == 0) return 0.0;
  // From the highest threshold down: rows that reach it.
  double true_positive = 0, false_positive = 0, area = 0, last_x = 0, last_y = 0;
  for (int n = count; n >= 1; --n) {
    false_positive += counts[2 * n];
    true_positive += counts[2 * n + 1];
    const double x = false_positive / negatives, y = true_positive / positives;
    if (n < count) area += (x - last_x) * (y + last_y) / 2;
    last_x = x, last_y = y;
  }
  return area;
}

void Auc::Update(const Rows& rows) {
  const bool logits =
      std::any_of(rows.predictions.begin(), rows.predictions.end(), [](float p) { return p < 0 || p > 1; });
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    const float p = rows.predictions[i];
    roc_.Count(logits ? 1.0f / (1.0f + std::exp(-p)) : p, rows.labels[i] > 0.5f, state_);
  }
}

void MulticlassAuc::Update(const Rows& rows) {
  const std::span<double> state = state_;
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    for (size_t c = 0; c < classes_; ++c) {
      roc_.Count(rows.predictions[i * classes_ + c], rows.labels[i] == static_cast<float>(c),
                 state.subspan(c * roc_.counts(), roc_.counts()));
    }
  }
}

double MulticlassAuc::Compute() const {
  const std::span<const double> state = state_;
  double sum = 0, weights = 0;
  for (size_t c = 0; c < classes_; ++c) {
    const auto counts = state.subspan(c * roc_.counts(), roc_.counts());
    double weight = 1;
    if (weighted_) {
      weight = 0;
      for (size_t n = 1; n < counts.size(); n += 2) weight += counts[n];
    }
    sum += weight * roc_.Area(counts);
    weights += weight;
  }
  return weights > 0 ? sum / weights : 0.0;
}

}  // namespace anneal::metrics
