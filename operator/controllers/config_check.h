// Whether a pipeline.config could be trained, by the worker's own rules.
#pragma once

#include <string>

#include "operator/kube/api.h"

namespace anneal::controllers {

/// All faults of the text with `edits` applied, one a line ("<where>:<line>:<column>: ..."); empty when there are none.
std::string CheckConfig(const std::string& text, const kube::Json& edits, const std::string& where);

}  // namespace anneal::controllers
