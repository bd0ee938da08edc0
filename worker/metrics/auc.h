// Binned areas under the ROC curve, as torchmetrics computes them with a number of thresholds.
#pragma once

#include "worker/metrics/metric.h"

namespace anneal::metrics {

/// A ROC curve at `thresholds` (at least 2) equally spaced operating points in [0, 1]. Counts hold, for every number n
/// of thresholds that a prediction reaches (0 .. thresholds), the rows of label 0 and of label 1 with that n.
class BinnedRoc {
 public:
  explicit BinnedRoc(int thresholds);
  size_t counts() const { return 2 * (thresholds_.size() + 1); }
  void Count(float probability, bool positive, std::span<double> counts) const;
  /// Trapezoid over (false positive rate, true positive rate), no end points beyond the thresholds. 0 when a class is
  /// missing.
  double Area(std::span<const double> counts) const;

 private:
  std::vector<float> thresholds_;  ///< linspace(0, 1, n) in float32 as torch makes it
};

/// A batch with a prediction outside [0, 1] is passed through a sigmoid first.
class Auc : public Metric {
 public:
  explicit Auc(int thresholds) : Auc(BinnedRoc(thresholds)) {}
  void Update(const Rows& rows) override;
  double Compute() const override { return roc_.Area(state_); }

 private:
  explicit Auc(BinnedRoc roc) : Metric(roc.counts()), roc_(std::move(roc)) {}
  BinnedRoc roc_;
};

/// Every class against the rest: the plain mean of the areas, or weighted by the classes' rows.
class MulticlassAuc : public Metric {
 public:
  MulticlassAuc(int thresholds, int classes, bool weighted)
      : MulticlassAuc(BinnedRoc(thresholds), static_cast<size_t>(classes), weighted) {}
  void Update(const Rows& rows) override;
  double Compute() const override;

 private:
  MulticlassAuc(BinnedRoc roc, size_t classes, bool weighted)
      : Metric(classes * roc.counts()), roc_(std::move(roc)), classes_(classes), weighted_(weighted) {}
  BinnedRoc roc_;
  size_t classes_;
  bool weighted_;
};

}  // namespace anneal::metrics
