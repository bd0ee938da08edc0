#include "operator/controllers/policies/baselines.h"

#include <cstdlib>

namespace anneal::controllers {
namespace {

using kube::Json;

bool IsNumber(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0';
}

}  // namespace

std::optional<Json> ResolveBaselines(kube::Api& api, const Json& job, RunInputs& inputs) {
  const std::string ns = job["metadata"].value("namespace", "default");
  auto missing = [&inputs](const std::string& reason, const std::string& message) -> std::optional<Json> {
    inputs.reason = reason;
    inputs.message = message;
    inputs.stalled = reason != "WaitingForBaseline";
    return std::nullopt;
  };
  Json values = Json::object();
  const Json gates = job["spec"].value("gates", Json::array());
  for (size_t i = 0; i < gates.size(); ++i) {
    if (!gates[i].contains("relativeTo")) continue;
    const Json& relative = gates[i]["relativeTo"];
    const std::string at = "spec.gates[" + std::to_string(i) + "]";
    std::string value;
    if (relative.contains("baselineConfigMap")) {
      const std::string name = relative["baselineConfigMap"]["name"], key = relative["baselineConfigMap"]["key"];
      const auto map = kube::Find(api, kube::resources::kConfigMap, ns, name);
      const std::string where = at + ": ConfigMap " + name + ", key " + key;
      if (!map || !map->value("data", Json::object()).contains(key))
        return missing("ReferenceNotFound", where + " is not there");
      value = (*map)["data"][key];
      value.erase(value.find_last_not_of(" \n\r\t") + 1);
      if (!IsNumber(value)) return missing("BaselineInvalid", where + ": '" + value + "' is not a number");
    } else {
      const std::string name = relative["evalJobRef"]["name"], metric = gates[i]["metric"];
      if (name == job["metadata"]["name"])
        return missing("BaselineInvalid", at + ": the job names itself as its baseline");
      const auto eval = kube::Find(api, kube::resources::kEvalJob, ns, name);
      const Json status = eval ? eval->value("status", Json::object()) : Json::object();
      if (!eval || status.value("phase", "") != "Complete") {
        return missing("WaitingForBaseline",
                       at + ": EvalJob " + name + (eval ? " is " + status.value("phase", "Pending") : " is not there"));
      }
      const Json metrics = status.value("progress", Json::object()).value("metrics", Json::array());
      for (const Json& entry : metrics) {
        if (entry.value("name", "") == metric) value = entry.value("value", "");
      }
      if (value.empty()) return missing("BaselineInvalid", at + ": EvalJob " + name + " reported no " + metric);
    }
    values[std::to_string(i)] = value;
  }
  return values;
}

}  // namespace anneal::controllers
