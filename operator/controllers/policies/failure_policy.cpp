#include "operator/controllers/policies/failure_policy.h"

#include <algorithm>

#include "operator/controllers/policies/pod_problems.h"
#include "worker/config/error.h"

namespace anneal::controllers {
namespace {

using kube::Json;

bool HasCondition(const WorkerFailure& failure, const std::string& type, const std::string& reason) {
  return std::any_of(failure.conditions.begin(), failure.conditions.end(), [&](const Json& condition) {
    return condition.value("type", "") == type && condition.value("status", "") == "True" &&
           (reason.empty() || condition.value("reason", "") == reason);
  });
}

bool Matches(const Json& rule, const WorkerFailure& failure) {
  if (rule.contains("onExitCodes")) {
    if (failure.lost) return false;
    const Json& codes = rule["onExitCodes"];
    const Json& values = codes["values"];
    const bool listed = std::find(values.begin(), values.end(), failure.exit_code) != values.end();
    return listed == (codes.value("operator", "In") == "In");
  }
  for (const Json& condition : rule.value("onPodConditions", Json::array())) {
    if (HasCondition(failure, condition["type"], condition.value("reason", ""))) return true;
  }
  for (const Json& reason : rule.value("onReasons", Json::array())) {
    if (reason == failure.reason) return true;
  }
  return false;
}

FailureAction ActionOf(const std::string& name) {
  return name == "Fail"                ? FailureAction::kFail
         : name == "RestartDoNotCount" ? FailureAction::kRestartDoNotCount
                                       : FailureAction::kRestart;
}

}  // namespace

WorkerFailure FailureOf(const Json& pod) {
  const Json status = pod.value("status", Json::object());
  WorkerFailure failure;
  failure.pod = pod["metadata"]["name"];
  failure.index = std::atoi(pod["metadata"]["labels"].value("anneal.dev/index", "0").c_str());
  failure.node = pod.value("spec", Json::object()).value("nodeName", "");
  failure.reason = status.value("reason", "Error");
  failure.message = status.value("message", "");
  failure.conditions = status.value("conditions", Json::array());
  failure.exit_code = 1;
  if (const Json ended = WorkerTermination(pod); ended.is_object()) {
    failure.exit_code = ended.value("exitCode", 1);
    // The pod's own reason (Evicted, NodeLost, DeadlineExceeded) says more than the container's "Error".
    if (!status.contains("reason")) failure.reason = ended.value("reason", failure.reason);
    failure.finished_at = ended.value("finishedAt", "");
    const Json told = Json::parse(ended.value("message", ""), nullptr, false);
    if (told.is_object()) failure.message = told.value("message", failure.message);
  }
  return failure;
}

std::vector<WorkerFailure> FindFailures(const std::vector<Json>& pods) {
  std::vector<WorkerFailure> failures;
  for (const Json& pod : pods) {
    if (pod.value("status", Json::object()).value("phase", "") == "Failed") failures.push_back(FailureOf(pod));
  }
  std::sort(failures.begin(), failures.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  return failures;
}

const WorkerFailure& Blame(const std::vector<WorkerFailure>& failures) {
  const int peer = static_cast<int>(ExitCode::kPeer);
  return *std::min_element(failures.begin(), failures.end(), [&](const auto& a, const auto& b) {
    return std::make_tuple(a.exit_code == peer, a.finished_at, a.index) <
           std::make_tuple(b.exit_code == peer, b.finished_at, b.index);
  });
}

std::optional<kube::Clock::Time> CulpritDue(const std::vector<WorkerFailure>& failures, int workers,
                                            kube::Clock::Time now) {
  constexpr std::chrono::seconds kKubeletTells{10};
  const WorkerFailure& first = Blame(failures);
  if (first.exit_code != static_cast<int>(ExitCode::kPeer) || static_cast<int>(failures.size()) >= workers) return {};
  const auto ended = kube::ParseTime(first.finished_at);
  if (!ended || *ended + kKubeletTells <= now) return {};
  return *ended + kKubeletTells;
}

FailureVerdict JudgeFailure(const Json& failure_policy, const std::vector<WorkerFailure>& failures) {
  FailureVerdict verdict;
  verdict.blamed = Blame(failures);
  const WorkerFailure& blamed = verdict.blamed;
  verdict.reason = blamed.lost ? blamed.reason : "WorkerFailed";
  verdict.message = blamed.lost
                        ? (blamed.pod.empty() ? "" : "worker " + std::to_string(blamed.index) + ": ") + blamed.message
                        : "worker " + std::to_string(blamed.index) + " ended with exit code " +
                              std::to_string(blamed.exit_code) +
                              (blamed.reason == "Error" ? "" : " (" + blamed.reason + ")") +
                              (blamed.message.empty() ? "" : ": " + blamed.message);
  for (const Json& rule : failure_policy.value("rules", Json::array())) {
    if (!Matches(rule, blamed)) continue;
    verdict.action = ActionOf(rule["action"]);
    verdict.reason = "RuleMatched";
    verdict.message = "rule '" + rule.value("name", "") + "': " + verdict.message;
    return verdict;
  }
  auto decide = [&verdict](FailureAction action, const std::string& reason) {
    verdict.action = action;
    verdict.reason = reason;
  };
  if (blamed.lost) {
    // A hang is the program's own; what was taken from outside is not.
    if (blamed.reason != "HangTimeout") verdict.action = FailureAction::kRestartDoNotCount;
  } else if (HasCondition(blamed, "DisruptionTarget", "")) {
    decide(FailureAction::kRestartDoNotCount, "Disrupted");
  } else if (blamed.reason == "OOMKilled") {
    decide(FailureAction::kFail, "OutOfMemory");
    verdict.message += "; raise workers.resources.limits.memory or lower data_config.batch_size";
  } else if (blamed.exit_code == static_cast<int>(ExitCode::kConfig) || blamed.exit_code == 2) {
    decide(FailureAction::kFail, "ConfigInvalid");
  } else if (blamed.exit_code == static_cast<int>(ExitCode::kData)) {
    decide(FailureAction::kFail, "DataInvalid");
  } else if (blamed.exit_code == static_cast<int>(ExitCode::kTerminated)) {
    decide(FailureAction::kRestartDoNotCount, "Stopped");
  }
  return verdict;
}

int BackOffs(const Json& failure_policy, const Json& run, kube::Clock::Time now) {
  const auto ran_since = kube::ParseTime(run.value("attemptRunningTime", ""));
  const int64_t reset = failure_policy.value("backoff", Json::object()).value("resetAfterSeconds", int64_t{3600});
  if (ran_since && now - *ran_since >= std::chrono::seconds(reset)) return 1;
  return run.value("backOffs", run.value("countedRestarts", 1) - 1) + 1;
}

void AvoidNode(const Json& failure_policy, const FailureVerdict& verdict, Json& run) {
  const std::string policy = failure_policy.value("avoidNodes", "Lost"), node = verdict.blamed.node;
  const bool lost = verdict.blamed.reason == "NodeLost" || verdict.blamed.reason == "HangTimeout";
  if (node.empty() || policy == "Never" || (policy == "Lost" && !lost)) return;
  Json nodes = Json::array();
  for (const Json& old : run.value("avoidNodes", Json::array())) {
    if (old != node) nodes.push_back(old);
  }
  nodes.push_back(node);
  while (nodes.size() > 8) nodes.erase(0);
  run["avoidNodes"] = nodes;
}

std::chrono::seconds RestartBackoff(const Json& failure_policy, int restarts) {
  const Json backoff = failure_policy.value("backoff", Json::object());
  const int64_t initial = backoff.value("initialSeconds", int64_t{10}),
                most = backoff.value("maxSeconds", int64_t{600});
  const int doublings = std::clamp(restarts - 1, 0, 30);
  return std::chrono::seconds(std::min(most, initial << doublings));
}

}  // namespace anneal::controllers
