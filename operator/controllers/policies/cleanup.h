// What is left of a run that has ended.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

struct CleanupVerdict {
  std::vector<kube::Json> pods;  ///< that have to go
  bool run_objects = false;      ///< the TTL is over: Service, config snapshots and pod groups go as well
  std::optional<std::chrono::milliseconds> look_again;
};

/// Applies spec.cleanup: podPolicy, then ttlSecondsAfterFinished. Pods of older attempts and runs always go.
CleanupVerdict JudgeCleanup(const kube::Json& spec, const kube::Json& run, const std::vector<kube::Json>& pods,
                            kube::Clock::Time now);

}  // namespace anneal::controllers
