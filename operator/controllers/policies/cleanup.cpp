#include "operator/controllers/policies/cleanup.h"

#include "operator/controllers/policies/pod_problems.h"

namespace anneal::controllers {

using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;

CleanupVerdict JudgeCleanup(const Json& spec, const Json& run, const std::vector<Json>& pods, kube::Clock::Time now) {
  CleanupVerdict verdict;
  const Json cleanup = spec.value("cleanup", Json::object());
  if (cleanup.contains("ttlSecondsAfterFinished")) {
    const auto ended = kube::ParseTime(run.value("completionTime", ""));
    const auto due = ended.value_or(now) + seconds(cleanup["ttlSecondsAfterFinished"].get<int64_t>());
    if (ended && due <= now) return {pods, true, std::nullopt};
    if (ended) verdict.look_again = std::chrono::duration_cast<milliseconds>(due - now) + milliseconds(100);
  }
  const std::string policy = cleanup.value("podPolicy", "Running");
  for (const Json& pod : pods) {
    if (policy == "All" || !IsOfAttempt(pod, run) || IsTerminating(pod) || (policy == "Running" && !HasEnded(pod)))
      verdict.pods.push_back(pod);
  }
  return verdict;
}

}  // namespace anneal::controllers
