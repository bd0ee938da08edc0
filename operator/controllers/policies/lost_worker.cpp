#include "operator/controllers/policies/lost_worker.h"

#include "operator/controllers/policies/pod_problems.h"

namespace anneal::controllers {

using kube::Json;

std::optional<WorkerFailure> FindLostWorker(const std::vector<Json>& pods, int desired, bool complete,
                                            std::chrono::seconds give_up, kube::Clock::Time now) {
  for (const Json& pod : pods) {
    if (HasEnded(pod)) continue;
    const auto due = GiveUpTime(pod, give_up);
    const bool silent = NodeSilentSince(pod).has_value() && due && *due <= now;
    if (!silent && !IsTerminating(pod)) continue;
    const Json target = PodCondition(pod, "DisruptionTarget");
    WorkerFailure lost = FailureOf(pod);
    lost.lost = true;
    if (silent) {
      lost.reason = "NodeLost";
      lost.message = "node " + lost.node + " is silent; is it powered off?";
    } else {
      lost.reason = target.is_object() ? target.value("reason", "DisruptionTarget") : "PodDeleted";
      lost.message = "the pod is being deleted" +
                     (target.is_object() ? ": " + target.value("message", "") : std::string(" from outside"));
    }
    return lost;
  }
  if (!complete || static_cast<int>(pods.size()) >= desired) return std::nullopt;
  WorkerFailure gone;
  gone.reason = "PodDeleted";
  gone.message = "a worker pod was deleted from outside";
  gone.lost = true;
  return gone;
}

}  // namespace anneal::controllers
