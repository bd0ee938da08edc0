#include "operator/controllers/policies/transitions.h"

namespace anneal::controllers {

using kube::Json;

std::optional<Transition> TransitionOf(const Json& before, const Json& after, kube::Clock::Time now) {
  const Json then = before.value("run", Json::object()), run = after.value("run", Json::object());
  const bool same_run = then.value("number", 0) == run.value("number", 0);
  Transition transition;
  transition.phase = after.value("phase", "");
  if (same_run && run.value("restarts", 0) > then.value("restarts", 0)) {
    const Json problems = after.value("problems", Json::array());
    transition.restart_reason = problems.empty() ? "Unknown" : problems[0].value("reason", "Unknown");
  }
  if (same_run && transition.phase == before.value("phase", "") && transition.restart_reason.empty())
    return std::nullopt;
  const bool runs_first = transition.phase == "Running" && !(same_run && then.contains("runningTime"));
  const bool ends = transition.phase == "Complete" || transition.phase == "Failed";
  if (const auto began = kube::ParseTime(run.value("startTime", "")); began && (runs_first || ends))
    transition.seconds = std::chrono::duration<double>(now - *began).count();
  return transition;
}

}  // namespace anneal::controllers
