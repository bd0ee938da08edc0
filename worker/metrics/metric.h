// Evaluation metrics over prediction and label columns (parity/models.md 8). No LibTorch: spans of numbers.
//
// A metric's state is a vector of doubles that adds up over batches and over ranks, so that an all-reduce of state()
// followed by Compute() is the metric of all rows.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tzrec/metric.pb.h"

namespace anneal::metrics {

class Metric {
 public:
  virtual ~Metric() = default;
  /// predictions [rows] (probabilities, or `y` for regression), labels [rows].
  virtual void Update(std::span<const float> predictions, std::span<const float> labels) = 0;
  virtual double Compute() const = 0;
  std::vector<double>& state() { return state_; }
  void Reset() { state_.assign(state_.size(), 0.0); }

 protected:
  explicit Metric(size_t state) : state_(state, 0.0) {}
  std::vector<double> state_;
};

/// The oneof's field name: "auc", "accuracy", ... Throws ConfigError when none is set.
std::string Name(const tzrec::protos::MetricConfig& config);

/// Throws ConfigError for a metric that is not supported yet.
std::unique_ptr<Metric> MakeMetric(const tzrec::protos::MetricConfig& config);

/// Area under the ROC curve from `thresholds` equally spaced operating points in [0, 1]: counts of predictions >= t,
/// trapezoid over (false positive rate, true positive rate), as torchmetrics' binned AUROC. A batch with a prediction
/// outside [0, 1] is passed through a sigmoid first. 0 when a class is missing.
class Auc : public Metric {
 public:
  explicit Auc(int thresholds);
  void Update(std::span<const float> predictions, std::span<const float> labels) override;
  double Compute() const override;

 private:
  std::vector<float> thresholds_;  ///< linspace(0, 1, n) in float32 as torch makes it
};

/// Mean of a loss over batches, weighted by their rows.
class WeightedMean : public Metric {
 public:
  WeightedMean() : Metric(2) {}
  void Update(std::span<const float> values, std::span<const float> weights) override;
  double Compute() const override;
};

}  // namespace anneal::metrics
