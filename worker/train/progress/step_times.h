// Where the steps of training and evaluation spend their time: the breakdown that `make bench` prints.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>

namespace anneal::train {

/// Parts of a step on the thread that runs the loop, in the order in which they come.
enum class Phase {
  kWait,          ///< for the reader threads
  kLookup,        ///< table lookups, with their all-to-all (evaluation: part of forward)
  kForward,       ///< dense forward pass and losses
  kBackward,      ///< dense backward pass
  kSparseUpdate,  ///< fused table update, with its all-to-all
  kDenseUpdate,   ///< all-reduce of dense gradients, clipping, dense optimizer
  kRest,          ///< logging, metrics, checkpoints, bookkeeping
};
inline constexpr int kPhases = 7;

/// With ANNEAL_STEP_TIMES=<file> rank 0 writes one CSV line per step to that file: CPU milliseconds of the loop's
/// thread per phase (`wait`: wall milliseconds), then the step's wall and process CPU milliseconds, CPU milliseconds of
/// the reader threads for decoding and for features, and the Unix time at the end. Without the variable nothing is
/// measured.
class StepTimes {
 public:
  static StepTimes& OfProcess();

  /// The time since the last End belongs to `phase`.
  void End(Phase phase);
  /// Closes the step.
  void EndStep(int64_t step);

 private:
  struct Clocks {
    double wall = 0, thread = 0, process = 0;  ///< milliseconds
  };
  StepTimes();
  static Clocks Now();

  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, &std::fclose};
  std::array<double, kPhases> phases_{};
  Clocks last_, step_began_;
  double read_ = 0, features_ = 0;
};

}  // namespace anneal::train
