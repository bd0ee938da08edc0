// What a failed attempt means: pure decisions over the pods that failed.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// A worker that ended badly.
struct WorkerFailure {
  int index = 0;
  std::string pod, node, reason, message;
  int exit_code = 0;
  std::string finished_at;                      ///< RFC 3339; orders by text
  kube::Json conditions = kube::Json::array();  ///< of its pod
  bool lost = false;  ///< taken from outside or hung, not ended by itself: there is no exit code
};

enum class FailureAction { kFail, kRestart, kRestartDoNotCount };

struct FailureVerdict {
  FailureAction action = FailureAction::kRestart;
  std::string reason;  ///< RuleMatched, Disrupted, OutOfMemory, ConfigInvalid, DataInvalid, Stopped, WorkerFailed, or a
                       ///< lost pod's
  std::string message;
  WorkerFailure blamed;
};

/// The facts of one pod, whatever its phase.
WorkerFailure FailureOf(const kube::Json& pod);

/// Failures among the pods of an attempt, in the order of worker index.
std::vector<WorkerFailure> FindFailures(const std::vector<kube::Json>& pods);

/// The first to end with a code of its own is to blame; 76 says "a peer failed" and is blamed only when all say so.
const WorkerFailure& Blame(const std::vector<WorkerFailure>& failures);

/// Until when to wait before judging: when all that failed only say that a peer did (76) and others of the `workers`
/// have not ended, the culprit's own end, which the rules are about, may be told seconds later. nullopt: judge now.
std::optional<kube::Clock::Time> CulpritDue(const std::vector<WorkerFailure>& failures, int workers,
                                            kube::Clock::Time now);

/// Applies spec.failurePolicy.rules, then the built-in ones: a pod condition DisruptionTarget (drain, preemption,
/// eviction), a pod deleted from outside or a lost node restart without counting; OOMKilled, 2, 64 and 78 fail; 143
/// restarts without counting; anything else restarts.
FailureVerdict JudgeFailure(const kube::Json& failure_policy, const std::vector<WorkerFailure>& failures);

/// How often the wait has been doubled: one more, or the first again when the attempt ran longer than
/// backoff.resetAfterSeconds.
int BackOffs(const kube::Json& failure_policy, const kube::Json& run, kube::Clock::Time now);

/// Adds the blamed worker's node to run.avoidNodes as failurePolicy.avoidNodes says; at most 8, the latest.
void AvoidNode(const kube::Json& failure_policy, const FailureVerdict& verdict, kube::Json& run);

/// Wait before restart number `restarts` (1, 2, ...): initial x 2^(restarts-1), at most max.
std::chrono::seconds RestartBackoff(const kube::Json& failure_policy, int restarts);

}  // namespace anneal::controllers
