#include "operator/controllers/run_snapshot.h"

#include "operator/api/schema.h"
#include "operator/api/spec_hash.h"
#include "operator/controllers/worker_pod.h"

namespace anneal::controllers {
namespace {

using kube::Json;

constexpr const char* kSpecKey = "spec.json";
constexpr size_t kRoom = (1 << 20) - 64;

bool HasInlineConfig(const Json& spec) { return spec.value("config", Json::object()).contains("inline"); }

}  // namespace

std::string SnapshotName(const std::string& job, int run) { return job + "-r" + std::to_string(run) + "-config"; }

Json ConfigSnapshot(const Json& job, const std::string& config) {
  const int run = job["status"]["run"]["number"];
  const std::string name = job["metadata"]["name"];
  Json labels = JobLabels(job), spec = job["spec"];
  labels["anneal.dev/run"] = std::to_string(run);
  for (const char* live : api::kLiveFields) spec.erase(live);
  if (HasInlineConfig(spec)) spec["config"]["inline"] = "";  // its text is the config beside it
  Json data = {{kConfigKey, config}};
  // A ConfigMap takes 1 MiB. A run whose spec finds no room in it is restarted from the spec of then.
  if (std::string text = spec.dump(); config.size() + text.size() < kRoom) data[kSpecKey] = std::move(text);
  return {
      {"metadata", {{"name", SnapshotName(name, run)}, {"labels", labels}, {"ownerReferences", {OwnerReference(job)}}}},
      {"immutable", true},
      {"data", data}};
}

std::optional<RunSnapshot> FindSnapshot(kube::Api& api, const std::string& ns, const std::string& job,
                                        const std::string& uid, int run) {
  const auto found = kube::Find(api, kube::resources::kConfigMap, ns, SnapshotName(job, run));
  if (!found || !BelongsTo(*found, uid)) return std::nullopt;
  const Json data = found->value("data", Json::object());
  RunSnapshot snapshot{data.value(kConfigKey, ""), Json::parse(data.value(kSpecKey, ""), nullptr, false)};
  if (!snapshot.spec.is_object())
    snapshot.spec = nullptr;
  else if (HasInlineConfig(snapshot.spec))
    snapshot.spec["config"]["inline"] = snapshot.config;
  return snapshot;
}

Json AsOfRun(const kube::Resource& resource, const Json& job, const RunSnapshot& snapshot) {
  if (snapshot.spec.is_null()) return job;
  Json begun = job;
  begun["spec"] = snapshot.spec;
  for (const char* live : api::kLiveFields) {
    if (job["spec"].contains(live)) begun["spec"][live] = job["spec"][live];
  }
  try {
    return api::DefaultAndValidate(resource, begun);
  } catch (const kube::ApiError&) {
    return job;
  }
}

}  // namespace anneal::controllers
