// What relative gates are relative to: values of other evaluations or of ConfigMaps, read when a run begins.
#pragma once

#include <optional>
#include <string>

#include "operator/controllers/decide.h"

namespace anneal::controllers {

/// One value (text) per gate with relativeTo, by the gate's index as text: kept in status.run.facts, so that a verdict
/// does not depend on when it is made. On a missing or unreadable baseline fills inputs.reason and message and returns
/// nullopt.
std::optional<kube::Json> ResolveBaselines(kube::Api& api, const kube::Json& job, RunInputs& inputs);

}  // namespace anneal::controllers
