#include "operator/api/conditions.h"

#include <algorithm>

namespace anneal::api {
namespace {

using kube::Json;

Json::iterator Find(Json& conditions, const std::string& type) {
  return std::find_if(conditions.begin(), conditions.end(), [&](const Json& c) { return c.value("type", "") == type; });
}

}  // namespace

void SetCondition(Json& status, const std::string& type, bool value, const std::string& reason,
                  const std::string& message, int64_t generation, kube::Clock::Time now) {
  Json& conditions = status["conditions"];
  if (!conditions.is_array()) conditions = Json::array();
  const std::string text = value ? "True" : "False";
  Json next = {{"type", type},
               {"status", text},
               {"reason", reason},
               {"message", message.substr(0, 1024)},
               {"observedGeneration", generation},
               {"lastTransitionTime", kube::FormatTime(now)}};
  const auto found = Find(conditions, type);
  if (found == conditions.end()) {
    conditions.push_back(next);
    return;
  }
  if ((*found)["status"] == text) next["lastTransitionTime"] = (*found)["lastTransitionTime"];
  *found = next;
}

void SetReadiness(Json& status, const Readiness& readiness, const std::string& reason, const std::string& message,
                  int64_t generation, kube::Clock::Time now) {
  for (const auto& [type, value] :
       {std::pair{"Ready", readiness.ready}, {"Reconciling", readiness.reconciling}, {"Stalled", readiness.stalled}}) {
    SetCondition(status, type, value, reason, message, generation, now);
  }
}

void RemoveCondition(Json& status, const std::string& type) {
  if (!status.contains("conditions")) return;
  const auto found = Find(status["conditions"], type);
  if (found != status["conditions"].end()) status["conditions"].erase(found);
}

Json FindCondition(const Json& status, const std::string& type) {
  if (!status.is_object() || !status.contains("conditions")) return nullptr;
  for (const Json& condition : status["conditions"]) {
    if (condition.value("type", "") == type) return condition;
  }
  return nullptr;
}

bool IsTrue(const Json& status, const std::string& type) {
  const Json condition = FindCondition(status, type);
  return condition.is_object() && condition["status"] == "True";
}

}  // namespace anneal::api
