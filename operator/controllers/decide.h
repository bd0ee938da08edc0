// The life of a run, as one pure function: what was observed in, new status and actions out.
//
//   Pending -> Starting -> Running -> Complete | Failed        Restarting: the next attempt waits for the old pods to
//   be gone and for its back-off.   Suspending -> Suspended.   A changed run field of an ended job begins run n+1.
//
// Intent is written before action: run and attempt numbers are in status before any pod of theirs exists, so a crash
// at any point replays to the same end. No pod of an attempt is made before every older pod is gone.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// What a run is made from, resolved from the spec and the objects it refers to.
struct RunInputs {
  bool ready = false;
  bool stalled = false;         ///< not ready, and only a human can change that
  bool invalid = false;         ///< the config is wrong: the run fails without a pod
  std::string reason, message;  ///< why not ready (WaitingForSource, ReferenceNotFound, GateFailed, ConfigInvalid)
  kube::Json identity;          ///< enters the spec hash and is kept in status.run.inputs
  kube::Json facts;             ///< kept in status.run.facts at the run's begin, not hashed (baselines of gates)
  std::string config;           ///< pipeline.config text
};

struct Observed {
  kube::Json job;     ///< with defaulted spec; while a run goes on, with the run fields that it began with
  kube::Json wanted;  ///< spec as it is now: what the next run is made from
  std::string hash;   ///< of `wanted` and the inputs; "": the inputs are not ready
  RunInputs inputs;
  std::vector<kube::Json> pods;  ///< of this job's UID, all runs and attempts
  kube::Json progress;           ///< last poll of rank 0, or null
  kube::Clock::Time now;
};

struct Decision {
  kube::Json status;                ///< the whole new status
  bool begun = false;               ///< status begins a run
  std::vector<int> create;          ///< workers of the current attempt; Service, claim and snapshot come first
  std::vector<kube::Json> remove;   ///< pods to delete (by UID)
  std::optional<int64_t> grace;     ///< seconds that those get, if not their own
  std::vector<kube::Json> force;    ///< pods to delete without grace: nobody will answer for them
  bool remove_run_objects = false;  ///< TTL: Service, config snapshots and pod groups go
  std::optional<std::chrono::milliseconds> requeue_after;
};

/// What differs between the kinds.
struct KindTraits {
  bool rerun_on_change = true;  ///< after the run ended
  bool steps = false;           ///< rank 0 reports steps: the condition Progressing tells whether they move
  /// Takes the results of a run whose workers all succeeded into status; `message` is w0's termination message. Sets
  /// Ready and Stalled itself. Returns an error text when the run has to count as failed.
  std::function<std::string(kube::Json& status, const kube::Json& message)> complete;
};

Decision Decide(const Observed& observed, const KindTraits& traits);

}  // namespace anneal::controllers
