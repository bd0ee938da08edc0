#include "worker/train/train_metrics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "worker/dist/vector_tensor.h"

namespace anneal::train {

using nlohmann::json;

TrainMetrics::TrainMetrics(const models::Network& network, dist::ProcessGroup& group) : group_(group) {
  for (const auto& head : network.heads()) {
    for (const auto& config : head.train_metrics) {
      entries_.push_back({eval::HeadMetric(metrics::WindowMetric(config), head, network), config.decay_rate(),
                          std::max<int64_t>(config.decay_step(), 1), config.has_auc()});
    }
  }
}

void TrainMetrics::Update(const models::Predictions& predictions, const data::Batch& batch) {
  for (Entry& entry : entries_) {
    if (batch.rows > 0) entry.metric.Update(predictions, batch);
    if (++entry.updates % entry.decay_step == 0) FinishWindow(entry);
  }
}

void TrainMetrics::FinishWindow(Entry& entry) {
  metrics::Metric& metric = entry.metric.metric();
  entry.metric.Reduce(group_);
  if (entry.averages_counts) {
    auto& counts = metric.state();
    if (!entry.average.empty()) {
      for (size_t i = 0; i < counts.size(); ++i) {
        counts[i] = entry.decay_rate * entry.average[i] + (1 - entry.decay_rate) * counts[i];
      }
    }
    entry.average = counts;
    entry.value = metric.Compute();
  } else if (const double window = metric.Compute(); !std::isnan(window)) {
    entry.value = entry.value == 0 ? window : entry.decay_rate * entry.value + (1 - entry.decay_rate) * window;
  }
  metric.Reset();
}

std::vector<std::pair<std::string, double>> TrainMetrics::Values() const {
  std::vector<std::pair<std::string, double>> values;
  for (const Entry& entry : entries_) values.emplace_back(entry.metric.name(), entry.value);
  return values;
}

json TrainMetrics::StateJson() {
  json all = json::object();
  for (Entry& entry : entries_) {
    std::vector<double> window = entry.metric.metric().state();
    group_.AllReduceSum(dist::AsTensor(window));
    all[entry.metric.name()] = {
        {"updates", entry.updates}, {"value", entry.value}, {"average", entry.average}, {"window", window}};
  }
  return all;
}

void TrainMetrics::Restore(const json& state) {
  for (Entry& entry : entries_) {
    const auto found = state.find(entry.metric.name());
    if (found == state.end()) continue;
    const auto average = found->at("average").get<std::vector<double>>();
    const auto window = found->at("window").get<std::vector<double>>();
    auto& counts = entry.metric.metric().state();
    // Another number of thresholds: the average starts again.
    if (window.size() != counts.size() || (!average.empty() && average.size() != counts.size())) continue;
    entry.updates = found->at("updates").get<int64_t>();
    entry.value = found->at("value").get<double>();
    entry.average = average;
    // The window's sum over ranks is added up again at its end.
    if (group_.rank() == 0) counts = window;
  }
}

}  // namespace anneal::train
