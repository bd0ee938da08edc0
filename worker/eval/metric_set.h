// Metrics bound to the columns of a network's batches, and what evaluation computes: the configured ones of every head
// and the means of the losses (parity/models.md 8).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/data/batch.h"
#include "worker/dist/process_group.h"
#include "worker/metrics/metric.h"
#include "worker/models/network.h"

namespace anneal::eval {

/// Metrics in the order of the log line: configured ones first, then the model's own, then the mean of every loss.
using Metrics = std::vector<std::pair<std::string, double>>;

/// One metric of a head with the prediction, the label and the groups that it reads.
class HeadMetric {
 public:
  /// Throws ConfigError when the network has no such column.
  HeadMetric(const tzrec::protos::MetricConfig& config, const models::Head& head, const models::Network& network);

  const std::string& name() const { return name_; }  ///< "auc_ctr"
  bool only_in_training() const { return head_.only_in_training; }
  void Update(const models::Predictions& predictions, const data::Batch& batch);
  /// Brings the state of all ranks together, so that metric().Compute() is the value over all rows. A collective.
  void Reduce(dist::ProcessGroup& group);
  metrics::Metric& metric() { return *metric_; }

 private:
  std::string name_;
  std::string prediction_;  ///< its kind: without the head's suffix
  models::Head head_;
  int label_ = 0;    ///< index in Batch::labels
  int domain_ = -1;  ///< likewise, of a head with domains
  int groups_ = -1;  ///< index in Batch::sparse, -1: no grouping_key
  std::unique_ptr<metrics::Metric> metric_;
};

class MetricSet {
 public:
  /// The network has to live as long.
  explicit MetricSet(const models::Network& network);

  void Update(const models::Predictions& predictions, const models::Losses& losses, const data::Batch& batch);
  /// Values over the rows of all ranks. A collective; ends the set's use.
  Metrics Compute(dist::ProcessGroup& group);

 private:
  const models::Network& network_;
  std::vector<HeadMetric> metrics_;
  std::vector<std::string> loss_names_;
  /// Per metric of the model's own: the sum and its weight. Then per loss: the sum of (mean loss of a batch * its
  /// labels), the number of labels.
  std::vector<double> sums_;
};

}  // namespace anneal::eval
