// Learning-rate schedules (parity/train.md 13) as pure functions of the number of scheduler steps made.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tzrec/optimizer.pb.h"

namespace anneal::optim {

/// lr(k) for k = 0, 1, ... completed scheduler steps; k counts training steps, or finished passes when by_epoch.
struct Schedule {
  std::function<double(int64_t k)> rate;
  bool by_epoch = false;
};

/// Throws ConfigError when no learning_rate is set or its numbers make no schedule. A base of 0 stays 0.
Schedule MakeSchedule(const tzrec::protos::SparseOptimizer& config, double base);
Schedule MakeSchedule(const tzrec::protos::DenseOptimizer& config, double base);
/// Of a part optimizer that has a learning_rate of its own; `where` is its path in the config.
Schedule MakeSchedule(const tzrec::protos::PartOptimizer& config, double base, const std::string& where);

}  // namespace anneal::optim
