// Identity of what a run was made from.
#pragma once

#include <array>
#include <string>

#include "operator/kube/api.h"

namespace anneal::api {

/// Fields of spec that take effect at once and never make a new run. All others are run fields.
inline constexpr std::array<const char*, 8> kLiveFields{
    "suspend",      "cleanup",      "failurePolicy",         "scheduling",
    "updatePolicy", "historyLimit", "activeDeadlineSeconds", "trigger"};

/// "v1:" and the SHA-256 of the canonical JSON of a job's run fields and the run's inputs. Left out is
/// every value that is its field's default: a field added by a later version with a default leaves the hashes of stored
/// jobs as they are, or an upgrade would retrain everything. `inputs`: what else decides the run (resolved config text,
/// source run).
std::string SpecHash(const kube::Resource& resource, const kube::Json& spec, const kube::Json& inputs);

/// Hex SHA-256 of bytes.
std::string Sha256(const std::string& bytes);

}  // namespace anneal::api
