#include "worker/metrics/row_mean.h"

#include <algorithm>
#include <cmath>

namespace anneal::metrics {

void MeanAbsoluteError::Update(const Rows& rows) {
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    Add(std::abs(static_cast<double>(rows.predictions[i]) - rows.labels[i]));
  }
}

void MeanSquaredError::Update(const Rows& rows) {
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    const double error = static_cast<double>(rows.predictions[i]) - rows.labels[i];
    Add(error * error);
  }
}

void BinaryAccuracy::Update(const Rows& rows) {
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    Add((rows.predictions[i] > threshold_) == (rows.labels[i] > 0.5f) ? 1 : 0);
  }
}

void TopK::Update(const Rows& rows) {
  const size_t classes = rows.predictions.size() / std::max<size_t>(rows.labels.size(), 1);
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    const auto row = rows.predictions.subspan(i * classes, classes);
    const auto label = static_cast<size_t>(rows.labels[i]);
    if (!(rows.labels[i] >= 0) || label >= classes) {
      Add(0);
      continue;
    }
    int before = 0;
    // Written so that a NaN counts as larger than everything, as in torch.topk.
    for (size_t c = 0; c < classes; ++c) before += !(row[c] <= row[label]) || (row[c] == row[label] && c < label);
    Add(before < k_ ? 1 : 0);
  }
}

void NormalizedEntropy::Update(const Rows& rows) {
  // torch's binary_cross_entropy bounds each logarithm at -100.
  const auto log = [](double x) { return std::max(std::log(x), -100.0); };
  for (size_t i = 0; i < rows.labels.size(); ++i) {
    const double p = rows.predictions[i], y = rows.labels[i];
    state_[0] -= y * log(p) + (1 - y) * log(1 - p);
    state_[1] += 1;
    state_[2] += y;
  }
}

double NormalizedEntropy::Compute() const {
  const double mean = std::clamp(state_[2] / state_[1], eta_, 1 - eta_);
  return state_[0] / (-state_[1] * (mean * std::log(mean) + (1 - mean) * std::log(1 - mean)));
}

}  // namespace anneal::metrics
