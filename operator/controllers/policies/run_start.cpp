#include "operator/controllers/policies/run_start.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/spec_hash.h"
#include "operator/controllers/policies/pod_problems.h"

namespace anneal::controllers {
namespace {

using kube::Json;

Json HistoryEntry(const Json& status) {
  const Json& run = status["run"];
  Json entry = {{"number", run["number"]},
                {"id", run.value("id", "")},
                {"specHash", run["specHash"]},
                {"result", status.value("phase", "")},
                {"startTime", run.value("startTime", "")},
                {"completionTime", run.value("completionTime", "")}};
  const Json progress = status.value("progress", Json::object());
  if (progress.contains("metrics")) entry["finalMetrics"] = progress["metrics"];
  if (progress.contains("lastCheckpoint")) entry["checkpoint"] = progress["lastCheckpoint"];
  if (progress.contains("bestCheckpoint")) entry["bestCheckpoint"] = progress["bestCheckpoint"];
  return entry;
}

void KeepHistory(Json& status, size_t limit) {
  Json& history = status["history"];
  if (!history.is_array()) history = Json::array();
  history.insert(history.begin(), HistoryEntry(status));
  while (history.size() > limit) history.erase(history.size() - 1);
}

/// Where a warm start from the run before finds weights: the latest run that has a checkpoint.
Json PreviousModel(const Json& status) {
  const Json& run = status["run"];
  const Json last = status.value("progress", Json::object()).value("lastCheckpoint", Json::object());
  if (!last.contains("step")) return run.value("previous", Json());
  return {{"run", run["number"]}, {"id", run.value("id", "")}, {"step", last["step"]}};
}

}  // namespace

bool RunHasEnded(const Json& status) {
  const std::string phase = status.value("phase", "");
  return phase == "Complete" || phase == "Failed";
}

NextRun WantsRun(const Json& status, const Json& spec, const Wish& wish, bool rerun_on_change, bool started) {
  if (!status.contains("run")) return NextRun::kBegin;
  const Json& run = status["run"];
  const bool changed = !wish.hash.empty() && run.value("specHash", "") != wish.hash;
  const bool asked = !wish.requested.empty() && run.value("requestedAt", "") != wish.requested;
  if (RunHasEnded(status)) return asked || (changed && rerun_on_change) ? NextRun::kBegin : NextRun::kNone;
  if (!changed) return NextRun::kNone;
  if (status.value("phase", "") == "Suspended") return NextRun::kBegin;  // nothing runs: the new spec is simply taken
  const std::string policy = spec.value("updatePolicy", Json::object()).value("running", "Queue");
  if (policy == "Restart" || !started) return NextRun::kBegin;
  return policy == "Ignore" ? NextRun::kNone : NextRun::kQueued;
}

bool HasStarted(const Json& run, const std::vector<Json>& pods, int nodes) {
  if (run.contains("runningTime")) return true;
  const auto begun = std::count_if(
      pods.begin(), pods.end(), [&](const Json& pod) { return PodPhase(pod) != "Pending" && IsOfAttempt(pod, run); });
  return begun >= nodes;
}

Json OlderPods(const Json& run, int nodes) {
  constexpr size_t kMost = 5;
  Json older = run.value("olderPods", Json::array());  // gone with the first pods of the attempt
  older.push_back({{"run", run["number"]}, {"attempt", run["attempt"]}, {"nodes", nodes}});
  while (older.size() > kMost) older.erase(older.begin());
  return older;
}

void BeginRun(Json& status, const Json& job, const RunInputs& inputs, const Wish& wish, kube::Clock::Time now) {
  int number = 1;
  std::string trigger = "Initial";
  Json previous, older;
  if (status.contains("run")) {
    number = status["run"].value("number", 0) + 1;
    trigger = status["run"].value("specHash", "") != wish.hash ? "SpecChange" : "Annotation";
    previous = PreviousModel(status);
    older = OlderPods(status["run"], status.value("workers", Json::object()).value("desired", 0));
    KeepHistory(status, job["spec"].value("historyLimit", size_t{5}));
  }
  const std::string uid = job["metadata"].value("uid", "");
  Json& run = status["run"] = {{"number", number},
                               {"id", "r" + std::to_string(number) + "-" + uid.substr(0, 8)},
                               {"specHash", wish.hash},
                               {"configHash", api::Sha256(inputs.config)},
                               {"inputs", inputs.identity},
                               {"trigger", trigger},
                               {"attempt", 1},
                               {"restarts", 0},
                               {"countedRestarts", 0},
                               {"startTime", kube::FormatTime(now)},
                               {"attemptTime", kube::FormatTime(now)}};
  if (!wish.requested.empty()) run["requestedAt"] = wish.requested;
  if (previous.is_object()) run["previous"] = previous;
  if (older.is_array()) run["olderPods"] = older;
  if (inputs.facts.is_object()) run["facts"] = inputs.facts;
  status["phase"] = "Pending";
  for (const char* stale : {"progress", "failure", "problems", "artifact", "gates", "gate", "checkpoint"})
    status.erase(stale);
  for (const char* stale : {"Complete", "Failed", "GatePassed", "Verified", "Published", "SpecChangePending",
                            "CheckpointAvailable", "Admitted", "Progressing"}) {
    api::RemoveCondition(status, stale);
  }
}

}  // namespace anneal::controllers
