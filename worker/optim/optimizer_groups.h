// The dense optimizer and its part_optimizers: which parameter is trained by which, at which learning rate.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/optim/dense_optimizer.h"
#include "worker/optim/schedule.h"

namespace anneal::optim {

/// Which optimizer a parameter belongs to (parity/train.md 12): index of the first pattern that matches its whole
/// name, or -1 for the main optimizer.
std::vector<int> AssignParts(const tzrec::protos::DenseOptimizer& config, const std::vector<std::string>& names);

class OptimizerGroups {
 public:
  struct Group {
    std::unique_ptr<DenseOptimizer> optimizer;
    Schedule schedule;
    int part = -1;  ///< index in part_optimizers; -1: the main optimizer
  };

  /// Groups in the order of lr_g: the main optimizer, then the parts that matched something. A part without a
  /// learning_rate of its own takes the dense schedule with its own base rate. Throws ConfigError for a pattern that
  /// is no regular expression and for patterns that leave the main optimizer nothing.
  OptimizerGroups(const tzrec::protos::DenseOptimizer& config, const std::vector<nn::NamedTensor>& parameters);

  const std::vector<Group>& groups() const { return groups_; }
  /// One step of every group; `rates` has one learning rate per group.
  void Step(const std::vector<double>& rates);
  std::vector<nn::NamedTensor> State();
  const std::vector<nn::NamedTensor>& parameters() const { return parameters_; }
  /// Drops all gradients (the next backward allocates them anew).
  void ZeroGradients();

 private:
  std::vector<nn::NamedTensor> parameters_;
  std::vector<Group> groups_;
};

}  // namespace anneal::optim
