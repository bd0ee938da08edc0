// What takes too long: the run, the start of its workers, a step.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

struct TimeoutVerdict {
  std::string reason, message;                          ///< DeadlineExceeded, PendingTimeout, HangTimeout; "" = in time
  std::optional<std::chrono::milliseconds> look_again;  ///< when the next limit is reached
};

/// activeDeadlineSeconds, pendingTimeoutSeconds (while not `all_run`) and progressTimeoutSeconds (while they do).
TimeoutVerdict CheckTimeouts(const kube::Json& spec, const kube::Json& status, bool all_run, kube::Clock::Time now);

/// The condition Progressing while all workers run: whether the step moves, as far as rank 0 tells.
struct ProgressVerdict {
  bool moves = false;
  std::string reason, message;  ///< StepAdvanced, NoHeartbeat, HangSuspected
  std::optional<std::chrono::milliseconds> look_again;
};
ProgressVerdict JudgeProgress(const kube::Json& spec, const kube::Json& status, kube::Clock::Time now);

}  // namespace anneal::controllers
