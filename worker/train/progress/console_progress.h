// The progress line of a long loop, as TorchEasyRec prints it (parity/train.md 6):
// "Training Epoch 0: 120it [35.12it/s] lr_g0:0.00100 ..."
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace anneal::train {

class ConsoleProgress {
 public:
  /// `start`: steps that were made before (resume). Prints on local rank 0 only (`enabled`).
  ConsoleProgress(bool enabled, int64_t start, int64_t least_growth = 1);

  /// Whether a line is due: more than a second since the last and `count` grew enough.
  bool Due(int64_t count) const;
  void Print(const std::string& description, int64_t count, const std::string& suffix);
  /// Steps per second of the last interval.
  double rate() const { return rate_; }

 private:
  bool enabled_;
  int64_t last_count_, least_growth_;
  std::chrono::steady_clock::time_point last_time_;
  double rate_ = 0;
};

}  // namespace anneal::train
