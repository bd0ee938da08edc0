// What a change of status says about the course of a run, for metrics.
#pragma once

#include <optional>
#include <string>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

struct Transition {
  std::string phase;           ///< that the job has come to
  std::string restart_reason;  ///< why its workers start again; "" unless they do
  /// From the begin of the run to its first Running, or to its end (Complete, Failed); none for other phases.
  std::optional<double> seconds;
};

/// None when the phase is as it was and nothing restarts.
std::optional<Transition> TransitionOf(const kube::Json& before, const kube::Json& after, kube::Clock::Time now);

}  // namespace anneal::controllers
