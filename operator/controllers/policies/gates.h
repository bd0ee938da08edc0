// Whether an evaluation's metrics pass the gates of an EvalJob.
#pragma once

#include <string>

#include "operator/kube/api.h"

namespace anneal::controllers {

struct GateResult {
  bool passed = true;
  kube::Json gates = kube::Json::array();  ///< {metric, op, threshold, value, passed} each, relative ones also baseline
  std::string message;                     ///< the gates that failed, or "all 2 gates passed"
};

/// A metric that the evaluation did not report fails its gate. `baselines`: the value (text) of each relative gate by
/// its index as text; its threshold is the baseline less maxDrop, for LTE and LT the baseline plus maxDrop.
GateResult JudgeGates(const kube::Json& gates, const kube::Json& metrics, const kube::Json& baselines = nullptr);

/// A number as status shows it, six decimals ("0.781200"); empty for anything that is not a number.
std::string MetricText(const kube::Json& value);

}  // namespace anneal::controllers
