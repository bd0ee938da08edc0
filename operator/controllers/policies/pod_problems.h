// What a pod's status says went wrong before its container ended: pure readings.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// "Pending" for a pod without a status.
std::string PodPhase(const kube::Json& pod);
bool HasEnded(const kube::Json& pod);  ///< Succeeded or Failed
bool IsTerminating(const kube::Json& pod);
/// The number in a label (anneal.dev/run, attempt, index); 0 without it.
int PodNumber(const kube::Json& pod, const char* label);
/// Whether it is a pod of the attempt that status.run is at.
bool IsOfAttempt(const kube::Json& pod, const kube::Json& run);

/// containerStatuses entry of the container `worker` (kubelets sort the list by name), or null.
kube::Json WorkerStatus(const kube::Json& pod);
/// state.terminated of the worker, or null.
kube::Json WorkerTermination(const kube::Json& pod);
/// The pod condition of that type, or null.
kube::Json PodCondition(const kube::Json& pod, const std::string& type);

struct PodProblem {
  std::string reason;   ///< ImagePullError, ContainerConfigError, Unschedulable, QuotaPending
  std::string message;  ///< how many pods, what the cluster said, what to do
};

/// Why pods of an attempt do not start, the gravest reason first; nullopt when none says so.
std::optional<PodProblem> WhyWaiting(const std::vector<kube::Json>& pods);

/// What a refused create means for a user: QuotaExceeded, Forbidden, NameTaken, MissingKind or ReconcileError.
PodProblem WhyRefused(const kube::ApiError& error);

/// Since when the pod's node has been silent: its controller marked the pod not ready although its containers were.
std::optional<kube::Clock::Time> NodeSilentSince(const kube::Json& pod);

/// When a pod may be given up: `timeout` after its node went silent, or, deleted, after it should have been gone.
/// nullopt: not at all, as things are.
std::optional<kube::Clock::Time> GiveUpTime(const kube::Json& pod, std::chrono::seconds timeout);

}  // namespace anneal::controllers
