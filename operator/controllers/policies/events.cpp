#include "operator/controllers/policies/events.h"

#include <algorithm>
#include <array>

#include "operator/api/conditions.h"

namespace anneal::controllers {
namespace {

using kube::Json;

/// Reasons of Ready that a person should look at although the operator goes on by itself.
constexpr std::array kTroubles = {
    "ImagePullError", "ContainerConfigError", "Unschedulable",  "QuotaExceeded",    "Forbidden",
    "NameTaken",      "MissingKind",          "ReconcileError", "ReferenceNotFound"};

Json RunOf(const Json& status) { return status.value("run", Json::object()); }

/// Whether the condition became that status just now.
bool Became(const Json& before, const Json& after, const char* type, bool value) {
  const Json now = api::FindCondition(after, type), then = api::FindCondition(before, type);
  if (!now.is_object() || now["status"] != (value ? "True" : "False")) return false;
  return !then.is_object() || then["status"] != now["status"] ||
         RunOf(before).value("number", 0) != RunOf(after).value("number", 0);
}

std::string MessageOf(const Json& status, const char* type) {
  const Json condition = api::FindCondition(status, type);
  return condition.is_object() ? condition.value("message", "") : "";
}

}  // namespace

std::vector<kube::EventFact> EventsOf(const Json& before, const Json& after) {
  std::vector<kube::EventFact> events;
  const Json old_run = RunOf(before), run = RunOf(after);
  if (run.value("number", 0) > old_run.value("number", 0)) {
    events.push_back(
        {false, "RunStarted", "run " + run["number"].dump() + " begins (" + run.value("trigger", "") + ")"});
  }
  const Json ready = api::FindCondition(after, "Ready"), was = api::FindCondition(before, "Ready");
  const std::string reason = ready.is_object() ? ready.value("reason", "") : "",
                    old = was.is_object() ? was.value("reason", "") : "";
  const bool restarted =
      run.value("restarts", 0) > old_run.value("restarts", 0) && run.value("number", 0) == old_run.value("number", 0);
  if (restarted && after.value("phase", "") == "Restarting") {
    const Json problems = after.value("problems", Json::array());
    events.push_back({true, problems.empty() ? reason : problems[0].value("reason", reason),
                      "all workers restart (attempt " + run["attempt"].dump() + "): " + ready.value("message", "")});
  } else if (reason != old && !reason.empty() && reason != "Restarting") {
    const bool trouble = std::find(kTroubles.begin(), kTroubles.end(), reason) != kTroubles.end();
    events.push_back({trouble || api::IsTrue(after, "Stalled"), reason, ready.value("message", "")});
  }
  if (Became(before, after, "GatePassed", true))
    events.push_back({false, "GatePassed", MessageOf(after, "GatePassed")});
  if (Became(before, after, "Published", true)) events.push_back({false, "Published", MessageOf(after, "Published")});
  if (Became(before, after, "SpecChangePending", true))
    events.push_back({false, "SpecChangeQueued", MessageOf(after, "SpecChangePending")});
  const Json moves = api::FindCondition(after, "Progressing"), moved = api::FindCondition(before, "Progressing");
  if (moves.is_object() && moves["reason"] == "HangSuspected" &&
      (!moved.is_object() || moved["reason"] != "HangSuspected"))
    events.push_back({true, "HangSuspected", moves.value("message", "")});
  return events;
}

}  // namespace anneal::controllers
