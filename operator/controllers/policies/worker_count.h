// The pods of an attempt, counted and told.
#pragma once

#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

struct WorkerCount {
  int desired = 0, pending = 0, running = 0, succeeded = 0, failed = 0, terminating = 0;

  /// Every worker runs or has done its work.
  bool all_run() const { return running > 0 && running + succeeded == desired; }
};

WorkerCount CountWorkers(const std::vector<kube::Json>& pods, int desired);
/// status.workers.
kube::Json WorkersStatus(const WorkerCount& count);

/// Writes why workers wait, or that they run, into WorkersReady, Admitted and the three conditions of kstatus.
void ReportWorkers(kube::Json& status, const std::vector<kube::Json>& pods, const WorkerCount& count,
                   int64_t generation, kube::Clock::Time now);

}  // namespace anneal::controllers
