#include "operator/controllers/policies/gates.h"

#include <cstdio>
#include <cstdlib>

namespace anneal::controllers {

using kube::Json;

std::string MetricText(const Json& value) {
  if (!value.is_number()) return "";
  char text[64];
  std::snprintf(text, sizeof text, "%.6f", value.get<double>());
  return text;
}

GateResult JudgeGates(const Json& gates, const Json& metrics, const Json& baselines) {
  GateResult result;
  for (size_t i = 0; i < gates.size(); ++i) {
    const Json& gate = gates[i];
    const std::string metric = gate["metric"], op = gate.value("op", "GTE");
    Json entry = {{"metric", metric}, {"op", op}};
    double threshold = 0;
    bool known = true;
    if (gate.contains("threshold")) {
      threshold = std::strtod(gate["threshold"].get<std::string>().c_str(), nullptr);
      entry["threshold"] = gate["threshold"];
    } else {
      const std::string baseline = baselines.is_object() ? baselines.value(std::to_string(i), "") : "";
      known = !baseline.empty();
      const double drop = std::strtod(gate["relativeTo"].value("maxDrop", "0").c_str(), nullptr);
      threshold = std::strtod(baseline.c_str(), nullptr) + (op == "GTE" || op == "GT" ? -drop : drop);
      entry["baseline"] = baseline;
      entry["threshold"] = known ? MetricText(threshold) : "";
    }
    bool passed = false;
    entry["value"] = metrics.is_object() && metrics.contains(metric) ? MetricText(metrics[metric]) : "";
    const std::string value = entry["value"];
    if (known && !value.empty()) {
      const double found = metrics[metric];
      passed = op == "GTE"   ? found >= threshold
               : op == "GT"  ? found > threshold
               : op == "LTE" ? found <= threshold
                             : found < threshold;
    }
    entry["passed"] = passed;
    if (!passed) {
      result.message +=
          (result.message.empty() ? "" : "; ") + metric + " is " + (value.empty() ? "not reported" : value) +
          (known ? ", must be " + op + " " + entry["threshold"].get<std::string>() : ", its baseline is unknown") +
          (gate.contains("relativeTo") ? " (baseline " + entry["baseline"].get<std::string>() + ")" : "");
    }
    result.passed = result.passed && passed;
    result.gates.push_back(std::move(entry));
  }
  if (result.passed) result.message = "all " + std::to_string(result.gates.size()) + " gates passed";
  return result;
}

}  // namespace anneal::controllers
