// A worker that was taken from outside: it will not say how it ended.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "operator/controllers/policies/failure_policy.h"
#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// The first worker of an attempt whose node is silent, that is being deleted (drain, preemption, a person), or that is
/// gone. `complete`: all pods of the attempt had been made, so that a missing one was taken away.
std::optional<WorkerFailure> FindLostWorker(const std::vector<kube::Json>& pods, int desired, bool complete,
                                            std::chrono::seconds give_up, kube::Clock::Time now);

}  // namespace anneal::controllers
