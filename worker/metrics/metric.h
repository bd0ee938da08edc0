// Evaluation metrics over prediction and label columns (parity/models.md 8). No LibTorch: spans of numbers.
//
// A metric's state is a vector of doubles that adds up over batches and over ranks, so that an all-reduce of state()
// followed by Compute() is the metric of all rows. Metrics that compare rows with each other keep samples besides:
// before the all-reduce every sample goes to rank `group mod world_size`, and FoldSamples() turns them into state.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tzrec/metric.pb.h"

namespace anneal::metrics {

/// What a batch gives a metric.
struct Rows {
  std::span<const float> predictions;  ///< [rows, classes] row-major: probabilities, or `y` for regression
  std::span<const float> labels;       ///< [rows]; of several classes the index of the class
  std::span<const int64_t> groups;     ///< [rows]: ids of the grouping_key, for metrics that have one
};

/// A row that waits for the other rows of its group.
struct Sample {
  int64_t group;
  float prediction, label;
};

class Metric {
 public:
  virtual ~Metric() = default;
  virtual void Update(const Rows& rows) = 0;
  /// Whether the metric compares rows with each other, so that rows of a group have to meet.
  virtual bool compares_rows() const { return false; }
  /// Adds what the samples say to the state and forgets them. All rows of a group have to be here.
  virtual void FoldSamples() {}
  /// NaN where no row defines a value, 0 where torchmetrics says 0 (see each metric).
  virtual double Compute() const = 0;

  std::vector<double>& state() { return state_; }
  std::vector<Sample>& samples() { return samples_; }
  void Reset() {
    state_.assign(state_.size(), 0.0);
    samples_.clear();
  }

 protected:
  explicit Metric(size_t state) : state_(state, 0.0) {}
  std::vector<double> state_;
  std::vector<Sample> samples_;
};

/// What results call the metric: the oneof's field name, for recall "recall@<k>". Throws ConfigError when none is set.
std::string Name(const tzrec::protos::MetricConfig& config);

/// What a metric of training steps measures in each of its windows.
tzrec::protos::MetricConfig WindowMetric(const tzrec::protos::TrainMetricConfig& config);

/// The prediction that a metric reads on a head of num_class outputs, without the head's suffix: "probs", "probs1"
/// (two classes), "y".
std::string PredictionOf(const tzrec::protos::MetricConfig& config, int num_class);

/// The sparse feature whose ids are the groups; empty for a metric without groups.
std::string GroupingKey(const tzrec::protos::MetricConfig& config);

/// A metric for a head of num_class outputs. Throws ConfigError for settings that name no metric.
std::unique_ptr<Metric> MakeMetric(const tzrec::protos::MetricConfig& config, int num_class);

}  // namespace anneal::metrics
