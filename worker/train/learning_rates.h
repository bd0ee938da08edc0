// The learning rates in force, and how far the schedules have come (parity/train.md 13).
#pragma once

#include <vector>

#include "worker/optim/optimizer_groups.h"
#include "worker/optim/schedule.h"

namespace anneal::train {

/// Learning rates of one step.
struct Rates {
  double sparse = 0;          ///< of the embedding tables
  std::vector<double> dense;  ///< one per group of OptimizerGroups
};

class LearningRates {
 public:
  LearningRates(optim::Schedule sparse, const optim::OptimizerGroups& groups);

  Rates Current() const;
  void FinishStep() { ++steps_; }   ///< advances per-step schedules
  void FinishPass() { ++passes_; }  ///< advances per-epoch schedules

  int64_t steps() const { return steps_; }
  int64_t passes() const { return passes_; }
  void Restore(int64_t steps, int64_t passes);

 private:
  optim::Schedule sparse_;
  const optim::OptimizerGroups& groups_;
  int64_t steps_ = 0, passes_ = 0;
};

}  // namespace anneal::train
