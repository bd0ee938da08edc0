// Metrics that are a mean over rows. All of them are 0 before the first row, as torchmetrics' are.
#pragma once

#include "worker/metrics/metric.h"

namespace anneal::metrics {

/// Mean of one value per row. State: sum of the values, number of rows.
class RowMean : public Metric {
 public:
  double Compute() const override { return state_[1] > 0 ? state_[0] / state_[1] : 0.0; }

 protected:
  RowMean() : Metric(2) {}
  void Add(double value) { state_[0] += value, state_[1] += 1; }
};

class MeanAbsoluteError : public RowMean {
 public:
  void Update(const Rows& rows) override;
};

class MeanSquaredError : public RowMean {
 public:
  void Update(const Rows& rows) override;
};

/// Share of rows whose probability is above the threshold just when the label is 1.
class BinaryAccuracy : public RowMean {
 public:
  explicit BinaryAccuracy(float threshold) : threshold_(threshold) {}
  void Update(const Rows& rows) override;

 private:
  float threshold_;
};

/// Share of rows whose label's column is among the k largest of the row; of equal values the first column counts as
/// larger. Accuracy of several classes; also recall@k of a match model, whose rows have one positive column each.
class TopK : public RowMean {
 public:
  explicit TopK(int k) : k_(k) {}
  void Update(const Rows& rows) override;

 private:
  int k_;
};

/// Cross entropy of the predictions divided by that of the constant mean label, which is clamped to [eta, 1 - eta]
/// (He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook"). State: sum of the rows' cross entropies,
/// rows, sum of labels. NaN without rows.
class NormalizedEntropy : public Metric {
 public:
  explicit NormalizedEntropy(double eta) : Metric(3), eta_(eta) {}
  void Update(const Rows& rows) override;
  double Compute() const override;

 private:
  double eta_;
};

}  // namespace anneal::metrics
