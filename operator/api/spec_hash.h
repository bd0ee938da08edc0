// Identity of what a run was made from.
#pragma once

#include <string>

#include "operator/kube/api.h"

namespace anneal::api {

/// "v1:" and the SHA-256 of the canonical JSON of a job's run fields and the run's inputs. Left out are the live fields
/// (suspend, cleanup, failurePolicy, scheduling, updatePolicy, historyLimit, activeDeadlineSeconds, trigger), which
/// never make a new run, and every value that is its field's default: a field added by a later version with a default
/// leaves the hashes of stored jobs as they are, or an upgrade would retrain everything. `inputs`: what else decides
/// the run (resolved config text, source run).
std::string SpecHash(const kube::Resource& resource, const kube::Json& spec, const kube::Json& inputs);

/// Hex SHA-256 of bytes.
std::string Sha256(const std::string& bytes);

}  // namespace anneal::api
