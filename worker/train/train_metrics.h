// Metrics of training batches, as a moving average over windows of steps (train_metrics; parity/models.md 8).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "worker/dist/process_group.h"
#include "worker/eval/metric_set.h"

namespace anneal::train {

/// Every decay_step steps the window's metric x over the rows of all ranks enters the value v: v = x when v is 0, else
/// v = decay_rate v + (1 - decay_rate) x. Of an AUC the counts are averaged instead: the first window's counts, then
/// decay_rate counts + (1 - decay_rate) window's counts. A value is 0 before its first window ends.
class TrainMetrics {
 public:
  /// Of every head of the network. Throws ConfigError.
  TrainMetrics(const models::Network& network, dist::ProcessGroup& group);

  /// The step's predictions; `batch` may be without rows. A collective.
  void Update(const models::Predictions& predictions, const data::Batch& batch);

  /// By name in the order of the heads.
  std::vector<std::pair<std::string, double>> Values() const;

  /// For a checkpoint. Rows that XAUC keeps of an unfinished window are not part of it: that window is shorter after a
  /// resume. A collective.
  nlohmann::json StateJson();
  void Restore(const nlohmann::json& state);

 private:
  struct Entry {
    eval::HeadMetric metric;
    double decay_rate;
    int64_t decay_step;
    bool averages_counts;  ///< AUC
    int64_t updates = 0;   ///< steps so far
    double value = 0;
    std::vector<double> average;  ///< of the counts; empty before the first window
  };
  void FinishWindow(Entry& entry);

  dist::ProcessGroup& group_;
  std::vector<Entry> entries_;
};

}  // namespace anneal::train
