// What a run was made from, kept in an immutable ConfigMap of its own as long as the run stands in the job's history:
// the config text, which its workers read, and the spec's run fields. The job's spec may be another by now.
#pragma once

#include <optional>
#include <string>

#include "operator/kube/api.h"

namespace anneal::controllers {

struct RunSnapshot {
  std::string config;  ///< pipeline.config
  kube::Json spec;     ///< run fields with their defaults; null in a snapshot of an operator that kept none
};

inline constexpr const char* kConfigKey = "pipeline.config";

std::string SnapshotName(const std::string& job, int run);

/// The ConfigMap of the run in job.status.run.
kube::Json ConfigSnapshot(const kube::Json& job, const std::string& config);

/// The snapshot of a run of the very job with this UID; nullopt when it is not kept any more.
std::optional<RunSnapshot> FindSnapshot(kube::Api& api, const std::string& ns, const std::string& job,
                                        const std::string& uid, int run);

/// The job with the run fields of the snapshot and live fields of its own. A job whose snapshot has no spec, or one
/// that this version does not understand, stays as it is.
kube::Json AsOfRun(const kube::Resource& resource, const kube::Json& job, const RunSnapshot& snapshot);

}  // namespace anneal::controllers
