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

GateResult JudgeGates(const Json& gates, const Json& metrics) {
  GateResult result;
  for (const Json& gate : gates) {
    const std::string metric = gate["metric"], op = gate.value("op", "GTE");
    const double threshold = std::strtod(gate["threshold"].get<std::string>().c_str(), nullptr);
    Json entry = {{"metric", metric}, {"op", op}, {"threshold", gate["threshold"]}};
    bool passed = false;
    if (metrics.is_object() && metrics.contains(metric) && metrics[metric].is_number()) {
      const double value = metrics[metric];
      passed = op == "GTE" ? value >= threshold : op == "GT" ? value > threshold : op == "LTE" ? value <= threshold : value < threshold;
      entry["value"] = MetricText(metrics[metric]);
    } else {
      entry["value"] = "";
    }
    entry["passed"] = passed;
    if (!passed) {
      const std::string value = entry["value"].get<std::string>();
      result.message += (result.message.empty() ? "" : "; ") + metric + " is " + (value.empty() ? "not reported" : value) +
                        ", must be " + op + " " + gate["threshold"].get<std::string>();
    }
    result.passed = result.passed && passed;
    result.gates.push_back(std::move(entry));
  }
  if (result.passed) result.message = "all " + std::to_string(result.gates.size()) + " gates passed";
  return result;
}

}  // namespace anneal::controllers
