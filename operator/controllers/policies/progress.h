// What a worker reports, as status.progress shows it.
#pragma once

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// Takes rank 0's /progress into status.progress; lastStepTime moves when the step does.
void TakeProgress(kube::Json& status, const kube::Json& live, int64_t generation, kube::Clock::Time now);

/// Takes globalStep, metrics and checkpoint of a termination message into status.progress.
void TakeResult(kube::Json& status, const kube::Json& message, int64_t generation, kube::Clock::Time now);

}  // namespace anneal::controllers
