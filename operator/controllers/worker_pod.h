// Pods, Service and claim of a run: names and JSON, nothing done.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "operator/kube/api.h"

namespace anneal::controllers {

/// What a kind adds to the pods of a run.
struct WorkerPlan {
  std::string image;
  std::vector<std::string> args;  ///< of one worker; "{index}" stands for its number
  kube::Json volumes = kube::Json::array(), mounts = kube::Json::array();
  kube::Json env_from = kube::Json::array();  ///< Secrets as environment
};

inline constexpr const char* kConfigFolder = "/etc/anneal";
inline constexpr const char* kConfigPath = "/etc/anneal/pipeline.config";
inline constexpr int kProgressPort = 29400;

std::string PodName(const kube::Json& job, int run, int attempt, int index);
std::string ServiceName(const kube::Json& job);
/// The pods of a run find each other through a headless Service; one alone needs none.
bool HasService(const kube::Json& job);
std::string ClaimName(const std::string& job);  ///< of checkpoint.volume.claimTemplate

/// Where rank 0 listens: worker 0's name inside the job's Service, loopback without one. Hosts are called as their
/// pods, so that no attempt meets the DNS answer of an older one.
std::string MasterAddress(const kube::Json& job);

/// Labels of a job's children; without run: what selects all of them.
kube::Json JobLabels(const kube::Json& job);
std::string JobSelector(const kube::Json& job);
kube::Json OwnerReference(const kube::Json& job);
/// Whether an owner of the object has this UID: a name alone may be that of a job made anew.
bool BelongsTo(const kube::Json& object, const std::string& uid);

/// Adds volume `name` with its mount to the plan; an existing volume of that name is shared.
void AddMount(WorkerPlan& plan, const std::string& name, const kube::Json& source, const std::string& path,
              bool read_only, const std::string& sub_path = "");
/// Where a run publishes, {uri | claimName, path, s3}: the flag with its URI, the store's settings, its volume and
/// Secret. A path that is not given is the job's name.
void AddDestination(WorkerPlan& plan, const std::string& flag, const kube::Json& artifact, const kube::Json& job);
/// spec.data.volumes and spec.data.credentials.
void AddDataVolumes(WorkerPlan& plan, const kube::Json& spec);

kube::Json WorkerPod(const kube::Json& job, int index, const WorkerPlan& plan);
kube::Json HeadlessService(const kube::Json& job);

}  // namespace anneal::controllers
