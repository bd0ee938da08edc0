// When a run begins, and what it begins with.
#pragma once

#include <string>

#include "operator/controllers/decide.h"

namespace anneal::controllers {

enum class NextRun {
  kNone,
  kBegin,
  kQueued,  ///< the spec has changed; this run ends first
};

/// What the job asks for now.
struct Wish {
  std::string hash;       ///< of the run fields and inputs; "" = not known yet
  std::string requested;  ///< annotation anneal.dev/run-requested-at
};

/// Whether the run of this status is Complete or Failed.
bool RunHasEnded(const kube::Json& status);

/// The first run; a changed run field as spec.updatePolicy says; a new run-requested-at after the end. A run that never
/// `started` has nothing to finish: a wrong image must not keep its correction waiting.
NextRun WantsRun(const kube::Json& status, const kube::Json& spec, const Wish& wish, bool rerun_on_change,
                 bool started);

/// Whether all workers of the run, `nodes`, have ever run, also if that happened while no operator looked.
bool HasStarted(const kube::Json& run, const std::vector<kube::Json>& pods, int nodes);

/// Attempts of which pods may be there although nobody knows of them, {run, attempt, nodes} each: the current one, and,
/// while not all pods of that have been made, those that had to be gone before it.
kube::Json OlderPods(const kube::Json& run, int nodes);

/// Writes the current run into history and run n+1 into status. What belonged to the old run leaves status.
/// The run's id, r<n>-<first 8 digits of the job's UID>, names its folder: a job that is made anew under the same name
/// never goes on in the folder of the one before.
void BeginRun(kube::Json& status, const kube::Json& job, const RunInputs& inputs, const Wish& wish,
              kube::Clock::Time now);

}  // namespace anneal::controllers
