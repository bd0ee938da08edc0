#include "operator/controllers/policies/pod_problems.h"

#include <algorithm>
#include <array>

namespace anneal::controllers {
namespace {

using kube::Json;

struct Kind {
  const char* reason;
  const char* advice;
};
/// In order of gravity.
constexpr std::array<Kind, 4> kKinds = {{
    {"ImagePullError", "check spec.image, imagePullSecrets and that the nodes reach the registry"},
    {"ContainerConfigError", "check that the Secrets and ConfigMaps the pod names exist"},
    {"QuotaPending", "the queue has no quota free yet: the workers wait for admission"},
    {"Unschedulable", "check workers.resources, gpusPerNode, nodeSelector, tolerations and that the claims are bound"},
}};

/// Index into kKinds and the cluster's words, for one pod.
std::optional<std::pair<size_t, std::string>> Problem(const Json& pod) {
  const Json status = pod.value("status", Json::object());
  if (status.value("phase", "Pending") != "Pending") return std::nullopt;
  for (const char* list : {"containerStatuses", "initContainerStatuses"}) {
    const Json containers = status.value(list, Json::array());
    for (const Json& container : containers) {
      const Json waiting = container.value("state", Json::object()).value("waiting", Json::object());
      const std::string reason = waiting.value("reason", "");
      const std::string words =
          reason + (waiting.contains("message") ? ": " + waiting["message"].get<std::string>() : "");
      if (reason.find("Image") != std::string::npos) return std::pair{size_t{0}, words};
      if (reason.starts_with("CreateContainer") || reason == "RunContainerError") return std::pair{size_t{1}, words};
    }
  }
  const Json scheduled = PodCondition(pod, "PodScheduled");
  if (!scheduled.is_object() || scheduled.value("status", "") != "False") return std::nullopt;
  const size_t kind = scheduled.value("reason", "") == "SchedulingGated" ? 2 : 3;
  return std::pair{kind, scheduled.value("reason", "") + ": " + scheduled.value("message", "")};
}

}  // namespace

std::string PodPhase(const Json& pod) { return pod.value("status", Json::object()).value("phase", "Pending"); }
bool HasEnded(const Json& pod) {
  const std::string phase = PodPhase(pod);
  return phase == "Succeeded" || phase == "Failed";
}
bool IsTerminating(const Json& pod) { return pod["metadata"].contains("deletionTimestamp"); }
int PodNumber(const Json& pod, const char* label) {
  return std::atoi(pod["metadata"].value("labels", Json::object()).value(label, "0").c_str());
}

bool IsOfAttempt(const Json& pod, const Json& run) {
  return PodNumber(pod, "anneal.dev/run") == run.value("number", 0) &&
         PodNumber(pod, "anneal.dev/attempt") == run.value("attempt", 0);
}

Json WorkerStatus(const Json& pod) {
  const Json statuses = pod.value("status", Json::object()).value("containerStatuses", Json::array());
  for (const Json& status : statuses) {
    if (status.value("name", "") == "worker") return status;
  }
  return nullptr;
}

Json WorkerTermination(const Json& pod) {
  const Json status = WorkerStatus(pod);
  return status.is_object() ? status.value("state", Json::object()).value("terminated", Json()) : Json();
}

Json PodCondition(const Json& pod, const std::string& type) {
  const Json conditions = pod.value("status", Json::object()).value("conditions", Json::array());
  for (const Json& condition : conditions) {
    if (condition.value("type", "") == type) return condition;
  }
  return nullptr;
}

std::optional<PodProblem> WhyWaiting(const std::vector<Json>& pods) {
  size_t gravest = kKinds.size(), count = 0;
  std::string words;
  for (const Json& pod : pods) {
    const auto problem = Problem(pod);
    if (!problem) continue;
    if (problem->first < gravest) {
      gravest = problem->first;
      count = 0;
      words = problem->second;
    }
    if (problem->first == gravest) ++count;
  }
  if (gravest == kKinds.size()) return std::nullopt;
  const Kind& kind = kKinds[gravest];
  return PodProblem{kind.reason, std::to_string(count) + " of " + std::to_string(pods.size()) + " workers: " + words +
                                     "; " + kind.advice};
}

PodProblem WhyRefused(const kube::ApiError& error) {
  const std::string words = error.what();
  if (error.status() == 403 && words.find("exceeded quota") != std::string::npos) {
    return {"QuotaExceeded", words + "; lower workers.resources or raise the namespace's ResourceQuota"};
  }
  if (error.status() == 403) return {"Forbidden", words + "; give the operator's service account this permission"};
  if (error.already_exists()) return {"NameTaken", words + "; remove or rename it"};
  if (error.not_found()) return {"MissingKind", words + "; is what spec.scheduling.gang needs installed?"};
  return {"ReconcileError", words};
}

std::optional<kube::Clock::Time> NodeSilentSince(const Json& pod) {
  const Json ready = PodCondition(pod, "Ready"), containers = PodCondition(pod, "ContainersReady");
  if (!ready.is_object() || !containers.is_object()) return std::nullopt;
  // A worker has no readiness probe: only the node's controller makes this pair. A readiness gate is the template's.
  if (ready.value("status", "") == "True" || containers.value("status", "") != "True") return std::nullopt;
  if (ready.value("reason", "") == "ReadinessGatesNotReady") return std::nullopt;
  return kube::ParseTime(ready.value("lastTransitionTime", ""));
}

std::optional<kube::Clock::Time> GiveUpTime(const Json& pod, std::chrono::seconds timeout) {
  if (timeout.count() <= 0) return std::nullopt;
  std::optional<kube::Clock::Time> first;
  const std::string phase = pod.value("status", Json::object()).value("phase", "Pending");
  if (const auto silent = NodeSilentSince(pod); silent && phase == "Running") first = *silent + timeout;
  if (const auto gone = kube::ParseTime(pod["metadata"].value("deletionTimestamp", ""))) {
    first = first ? std::min(*first, *gone + timeout) : *gone + timeout;
  }
  return first;
}

}  // namespace anneal::controllers
