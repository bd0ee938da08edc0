// Metrics over pairs of rows: does the row with the larger label have the larger prediction?
//
// TorchEasyRec draws a sample of the pairs; here every pair counts, in n log n time: the value that its sampling
// estimates, without the noise (docs/config.md).
#pragma once

#include "worker/metrics/metric.h"

namespace anneal::metrics {

/// Pairs of rows with different labels: `concordant` ones, whose predictions differ the same way, `tied` ones, whose
/// predictions are equal, and all.
struct PairCounts {
  double concordant = 0, tied = 0, different = 0;
};
PairCounts CountPairs(std::span<const Sample> rows);

/// Mean over groups of the exact AUC (any threshold, ties count half); groups with one class only are left out. NaN
/// when every group is.
class GroupedAuc : public Metric {
 public:
  GroupedAuc() : Metric(2) {}
  bool compares_rows() const override { return true; }
  void Update(const Rows& rows) override;
  void FoldSamples() override;
  double Compute() const override { return state_[0] / state_[1]; }
};

/// Share of all pairs of rows, equal labels and predictions included, that are concordant. With in_batch pairs are
/// formed inside a batch, and the value is the mean over batches. NaN without a pair.
class Xauc : public Metric {
 public:
  explicit Xauc(bool in_batch) : Metric(2), in_batch_(in_batch) {}
  bool compares_rows() const override { return !in_batch_; }
  void Update(const Rows& rows) override;
  void FoldSamples() override;
  double Compute() const override { return state_[0] / state_[1]; }

 private:
  bool in_batch_;
};

/// Mean over groups of the pairs' share inside the group, weighted by the group's rows; groups of one row are left out.
/// NaN when every group is.
class GroupedXauc : public Metric {
 public:
  GroupedXauc() : Metric(2) {}
  bool compares_rows() const override { return true; }
  void Update(const Rows& rows) override;
  void FoldSamples() override;
  double Compute() const override { return state_[0] / state_[1]; }
};

}  // namespace anneal::metrics
