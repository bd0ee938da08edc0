#include "worker/metrics/metric.h"

#include <algorithm>
#include <cmath>

#include "worker/config/error.h"

namespace anneal::metrics {
namespace {

using tzrec::protos::MetricConfig;

/// Sum of row values and number of rows.
class RowMean : public Metric {
 public:
  explicit RowMean(double (*value)(float, float)) : Metric(2), value_(value) {}
  void Update(std::span<const float> predictions, std::span<const float> labels) override {
    for (size_t i = 0; i < predictions.size(); ++i) state_[0] += value_(predictions[i], labels[i]);
    state_[1] += static_cast<double>(predictions.size());
  }
  double Compute() const override { return state_[1] > 0 ? state_[0] / state_[1] : 0.0; }

 private:
  double (*value_)(float, float);
};

/// Share of rows whose thresholded prediction equals the label.
class BinaryAccuracy : public Metric {
 public:
  explicit BinaryAccuracy(float threshold) : Metric(2), threshold_(threshold) {}
  void Update(std::span<const float> predictions, std::span<const float> labels) override {
    for (size_t i = 0; i < predictions.size(); ++i) state_[0] += (predictions[i] > threshold_) == (labels[i] > 0.5f);
    state_[1] += static_cast<double>(predictions.size());
  }
  double Compute() const override { return state_[1] > 0 ? state_[0] / state_[1] : 0.0; }

 private:
  float threshold_;
};

}  // namespace

Auc::Auc(int thresholds) : Metric(2 * (thresholds + 1)) {
  // torch.linspace fills from both ends.
  const float step = 1.0f / static_cast<float>(thresholds - 1);
  for (int i = 0; i < thresholds; ++i) {
    thresholds_.push_back(i < thresholds / 2 ? step * static_cast<float>(i)
                                             : 1.0f - step * static_cast<float>(thresholds - 1 - i));
  }
}

// state: for every number n of thresholds that a prediction reaches, rows of label 0 and of label 1 with that n.
void Auc::Update(std::span<const float> predictions, std::span<const float> labels) {
  const bool logits = std::any_of(predictions.begin(), predictions.end(), [](float p) { return p < 0 || p > 1; });
  const int count = static_cast<int>(thresholds_.size());
  for (size_t i = 0; i < predictions.size(); ++i) {
    float p = predictions[i];
    if (logits) p = 1.0f / (1.0f + std::exp(-p));
    if (std::isnan(p)) continue;
    int reached = std::clamp(static_cast<int>(p * static_cast<float>(count - 1)) + 1, 0, count);
    while (reached < count && p >= thresholds_[reached]) ++reached;
    while (reached > 0 && p < thresholds_[reached - 1]) --reached;
    state_[2 * reached + (labels[i] > 0.5f)] += 1;
  }
}

double Auc::Compute() const {
  const int count = static_cast<int>(thresholds_.size());
  double positives = 0, negatives = 0;
  for (int n = 0; n <= count; ++n) negatives += state_[2 * n], positives += state_[2 * n + 1];
  if (positives == 0 || negatives == 0) return 0.0;
  // From the highest threshold down: rows that reach it.
  double true_positive = 0, false_positive = 0, area = 0, last_x = 0, last_y = 0;
  for (int n = count; n >= 1; --n) {
    false_positive += state_[2 * n];
    true_positive += state_[2 * n + 1];
    const double x = false_positive / negatives, y = true_positive / positives;
    if (n < count) area += (x - last_x) * (y + last_y) / 2;  // no end points beyond the thresholds
    last_x = x, last_y = y;
  }
  return area;
}

void WeightedMean::Update(std::span<const float> values, std::span<const float> weights) {
  for (size_t i = 0; i < values.size(); ++i) {
    state_[0] += static_cast<double>(values[i]) * weights[i];
    state_[1] += weights[i];
  }
}

double WeightedMean::Compute() const { return state_[1] > 0 ? state_[0] / state_[1] : std::nan(""); }

std::string Name(const MetricConfig& config) {
  const auto* oneof = config.GetDescriptor()->FindOneofByName("metric");
  const auto* field = oneof ? config.GetReflection()->GetOneofFieldDescriptor(config, oneof) : nullptr;
  if (!field) throw ConfigError("metrics: an entry names no metric");
  return field->name();
}

std::unique_ptr<Metric> MakeMetric(const MetricConfig& config) {
  const std::string name = Name(config);
  if (config.has_auc()) {
    if (config.auc().thresholds() < 2) throw ConfigError("metrics.auc.thresholds must be at least 2");
    return std::make_unique<Auc>(static_cast<int>(config.auc().thresholds()));
  }
  if (config.has_mean_absolute_error()) {
    return std::make_unique<RowMean>([](float p, float y) { return std::abs(static_cast<double>(p) - y); });
  }
  if (config.has_mean_squared_error()) {
    return std::make_unique<RowMean>([](float p, float y) { return (static_cast<double>(p) - y) * (static_cast<double>(p) - y); });
  }
  if (config.has_accuracy()) return std::make_unique<BinaryAccuracy>(config.accuracy().threshold());
  throw ConfigError("metrics." + name + ": not supported yet");
}

}  // namespace anneal::metrics
