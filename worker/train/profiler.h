// is_profiling: one trace of a few steps for TensorBoard and Perfetto (parity/train.md 17).
#pragma once

#include <memory>
#include <string>

namespace at {
class RecordFunction;
}

namespace anneal::train {

/// Skips one step, warms up for one, records ten with shapes, memory and stacks, then writes
/// `<folder>/<host>_<pid>.<ms>.pt.trace.json` (Chrome trace format). One trace per run and rank.
class StepProfiler {
 public:
  StepProfiler(bool enabled, const std::string& folder);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  /// After every step.
  void FinishStep();
  /// At the end of training: writes what was recorded so far.
  void Finish();

 private:
  void MarkStep();

  bool enabled_, recording_ = false;
  std::string folder_;
  int steps_ = 0;
  std::unique_ptr<at::RecordFunction> step_;
};

}  // namespace anneal::train
