#include "operator/controllers/policies/worker_count.h"

#include "operator/api/conditions.h"
#include "operator/controllers/policies/pod_problems.h"

namespace anneal::controllers {

using kube::Json;

WorkerCount CountWorkers(const std::vector<Json>& pods, int desired) {
  WorkerCount count;
  count.desired = desired;
  for (const Json& pod : pods) {
    const std::string phase = PodPhase(pod);
    count.terminating += IsTerminating(pod);
    count.running += phase == "Running";
    count.pending += phase == "Pending";
    count.succeeded += phase == "Succeeded";
    count.failed += phase == "Failed";
  }
  return count;
}

Json WorkersStatus(const WorkerCount& count) {
  return {{"desired", count.desired},
          {"pending", count.pending},
          {"running", count.running},
          {"succeeded", count.succeeded},
          {"failed", count.failed},
          {"terminating", count.terminating},
          {"summary", std::to_string(count.running) + "/" + std::to_string(count.desired)}};
}

void ReportWorkers(Json& status, const std::vector<Json>& pods, const WorkerCount& count, int64_t generation,
                   kube::Clock::Time now) {
  const auto condition = [&](const char* type, bool value, const std::string& reason, const std::string& message) {
    api::SetCondition(status, type, value, reason, message, generation, now);
  };
  const Json& run = status["run"];
  const bool all = count.all_run();
  std::optional<PodProblem> problem = all ? std::nullopt : WhyWaiting(pods);
  // A create was refused: that is the news until all pods are there.
  if (!problem && run.contains("blocked")) problem = PodProblem{run["blocked"]["reason"], run["blocked"]["message"]};
  if (problem) {
    condition("WorkersReady", false, problem->reason, problem->message);
    api::SetReadiness(status, {}, problem->reason, problem->message, generation, now);
  } else {
    std::string summary = std::to_string(count.running) + " of " + std::to_string(count.desired) + " workers run";
    if (count.succeeded > 0) summary += ", " + std::to_string(count.succeeded) + " succeeded";
    condition("WorkersReady", all, all ? "AllRunning" : "Waiting", summary);
    api::SetReadiness(status, {}, all ? "RunInProgress" : "Creating",
                      "run " + run["number"].dump() + ", attempt " + run["attempt"].dump(), generation, now);
  }
  if (problem && problem->reason == "QuotaPending") {
    condition("Admitted", false, "QuotaPending", problem->message);
  } else if (api::FindCondition(status, "Admitted").is_object()) {
    condition("Admitted", true, "QueueAdmitted", "");
  }
}

}  // namespace anneal::controllers
