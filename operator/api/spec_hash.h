// Identity of what a run was made from.
#pragma once

#include <string>

#include "operator/kube/api.h"

namespace anneal::api {

/// "v1:" and the SHA-256 of the canonical JSON of a spec's run fields and the run's inputs. Live fields (suspend,
/// cleanup, failurePolicy, updatePolicy, historyLimit, activeDeadlineSeconds) are left out: changing them never makes a
/// new run. `inputs`: what else decides the run (resolved config text, source run).
std::string SpecHash(const kube::Json& spec, const kube::Json& inputs);

/// Hex SHA-256 of bytes.
std::string Sha256(const std::string& bytes);

}  // namespace anneal::api
