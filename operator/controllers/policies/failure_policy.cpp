#include "operator/controllers/policies/failure_policy.h"

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::controllers {
namespace {

using kube::Json;

const Json* Terminated(const Json& pod) {
  const Json::json_pointer path("/status/containerStatuses/0/state/terminated");
  return pod.contains(path) ? &pod.at(path) : nullptr;
}

bool Matches(const Json& rule, int exit_code) {
  const Json& codes = rule["onExitCodes"];
  const Json& values = codes["values"];
  const bool listed = std::find(values.begin(), values.end(), exit_code) != values.end();
  return listed == (codes.value("operator", "In") == "In");
}

FailureAction ActionOf(const std::string& name) {
  return name == "Fail" ? FailureAction::kFail
         : name == "RestartDoNotCount" ? FailureAction::kRestartDoNotCount
                                       : FailureAction::kRestart;
}

}  // namespace

std::vector<WorkerFailure> FindFailures(const std::vector<Json>& pods) {
  std::vector<WorkerFailure> failures;
  for (const Json& pod : pods) {
    const Json status = pod.value("status", Json::object());
    if (status.value("phase", "") != "Failed") continue;
    WorkerFailure failure;
    failure.pod = pod["metadata"]["name"];
    failure.index = std::atoi(pod["metadata"]["labels"].value("anneal.dev/index", "0").c_str());
    failure.node = pod.value("spec", Json::object()).value("nodeName", "");
    failure.reason = status.value("reason", "Error");
    failure.message = status.value("message", "");
    if (const Json* ended = Terminated(pod)) {
      failure.exit_code = ended->value("exitCode", 1);
      failure.reason = ended->value("reason", failure.reason);
      failure.finished_at = ended->value("finishedAt", "");
      const Json told = Json::parse(ended->value("message", ""), nullptr, false);
      if (told.is_object()) failure.message = told.value("message", failure.message);
    } else {
      failure.exit_code = 1;
    }
    failures.push_back(std::move(failure));
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

FailureVerdict JudgeFailure(const Json& failure_policy, const std::vector<WorkerFailure>& failures) {
  FailureVerdict verdict;
  verdict.blamed = Blame(failures);
  const WorkerFailure& blamed = verdict.blamed;
  verdict.reason = "WorkerFailed";
  verdict.message = "worker " + std::to_string(blamed.index) + " ended with exit code " +
                    std::to_string(blamed.exit_code) + (blamed.message.empty() ? "" : ": " + blamed.message);
  for (const Json& rule : failure_policy.value("rules", Json::array())) {
    if (!Matches(rule, blamed.exit_code)) continue;
    verdict.action = ActionOf(rule["action"]);
    verdict.reason = "RuleMatched";
    verdict.message = "rule '" + rule.value("name", "") + "': " + verdict.message;
    return verdict;
  }
  if (blamed.exit_code == static_cast<int>(ExitCode::kConfig)) {
    verdict.action = FailureAction::kFail;
    verdict.reason = "ConfigInvalid";
  } else if (blamed.exit_code == static_cast<int>(ExitCode::kData)) {
    verdict.action = FailureAction::kFail;
    verdict.reason = "DataInvalid";
  } else if (blamed.exit_code == static_cast<int>(ExitCode::kTerminated)) {
    verdict.action = FailureAction::kRestartDoNotCount;
    verdict.reason = "Stopped";
  }
  return verdict;
}

std::chrono::seconds RestartBackoff(const Json& failure_policy, int restarts) {
  const Json backoff = failure_policy.value("backoff", Json::object());
  const int64_t initial = backoff.value("initialSeconds", int64_t{10}), most = backoff.value("maxSeconds", int64_t{600});
  const int doublings = std::clamp(restarts - 1, 0, 30);
  return std::chrono::seconds(std::min(most, initial << doublings));
}

}  // namespace anneal::controllers
