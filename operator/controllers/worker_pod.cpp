#include "operator/controllers/worker_pod.h"

#include <algorithm>

#include "operator/controllers/gang.h"
#include "operator/controllers/pod_overlay.h"
#include "operator/controllers/run_snapshot.h"

namespace anneal::controllers {
namespace {

using kube::Json;

constexpr const char* kArtifacts = "/mnt/artifacts";

std::string NameOf(const Json& job) { return job["metadata"]["name"]; }

void AddEnv(Json& env, const std::string& name, const std::string& value) {
  for (Json& variable : env) {
    if (variable["name"] == name) {
      variable["value"] = value;  // the later one wins: a user's own
      return;
    }
  }
  env.push_back({{"name", name}, {"value", value}});
}

std::string Replace(std::string text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

Json Environment(const Json& job, int index) {
  const Json& spec = job["spec"];
  const Json& rendezvous = spec["rendezvous"];
  Json env = Json::array();
  AddEnv(env, "MASTER_ADDR", MasterAddress(job));
  AddEnv(env, "MASTER_PORT", rendezvous["port"].dump());
  AddEnv(env, "NNODES", spec["workers"]["numNodes"].dump());
  AddEnv(env, "NODE_RANK", std::to_string(index));
  AddEnv(env, "PROCESS_GROUP_TIMEOUT_SECONDS", rendezvous["timeoutSeconds"].dump());
  AddEnv(env, "ANNEAL_PROGRESS_PORT", std::to_string(kProgressPort));
  AddEnv(env, "ANNEAL_LOCK_WAIT_SECONDS", "-1");  // a lost node's process may hold model_dir's lock
  if (rendezvous.contains("interface")) {
    AddEnv(env, "NCCL_SOCKET_IFNAME", rendezvous["interface"]);
    AddEnv(env, "GLOO_SOCKET_IFNAME", rendezvous["interface"]);
  }
  const Json hcas = rendezvous.value("rdma", Json::object()).value("hcas", Json::array());
  std::string adapters;
  for (const Json& hca : hcas) adapters += (adapters.empty() ? "" : ",") + hca.get<std::string>();
  if (!adapters.empty()) AddEnv(env, "NCCL_IB_HCA", adapters);
  for (const Json& variable : rendezvous.value("env", Json::array())) {
    AddEnv(env, variable["name"], variable.value("value", ""));
  }
  return env;
}

Json Resources(const Json& spec) {
  const Json& workers = spec["workers"];
  Json resources = workers.value("resources", Json::object());
  // Extended resources cannot be overcommitted: request and limit are the same.
  auto add = [&resources](const std::string& name, int64_t count) {
    if (count <= 0) return;
    resources["requests"][name] = std::to_string(count);
    resources["limits"][name] = std::to_string(count);
  };
  add(workers["gpuResourceName"], workers["gpusPerNode"]);
  const Json rdma = spec["rendezvous"].value("rdma", Json::object());
  if (rdma.contains("resourceName")) add(rdma["resourceName"], rdma.value("count", int64_t{1}));
  return resources;
}

Json ContainerSecurity(const Json& spec) {
  Json capabilities = {{"drop", {"ALL"}}};
  if (spec["rendezvous"].contains("rdma")) capabilities["add"] = {"IPC_LOCK"};  // registers memory with the adapter
  return {{"allowPrivilegeEscalation", false}, {"readOnlyRootFilesystem", true}, {"capabilities", capabilities}};
}

/// Nodes where a worker of this run was lost, as a wish: on a small cluster there may be no other.
void AvoidNodes(const Json& nodes, Json& pod_spec) {
  if (!nodes.is_array() || nodes.empty()) return;
  const Json term = {
      {"weight", 100},
      {"preference",
       {{"matchExpressions", {{{"key", "kubernetes.io/hostname"}, {"operator", "NotIn"}, {"values", nodes}}}}}}};
  pod_spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].push_back(term);
}

}  // namespace

std::string PodName(const Json& job, int run, int attempt, int index) {
  return NameOf(job) + "-r" + std::to_string(run) + "-a" + std::to_string(attempt) + "-w" + std::to_string(index);
}

bool HasService(const Json& job) { return job["spec"]["workers"]["numNodes"] > 1; }
std::string ServiceName(const Json& job) { return NameOf(job) + "-hl"; }
std::string ClaimName(const std::string& job) { return job + "-model"; }

std::string MasterAddress(const Json& job) {
  if (!HasService(job)) return "127.0.0.1";
  const Json& run = job["status"]["run"];
  return PodName(job, run["number"], run["attempt"], 0) + "." + ServiceName(job) + "." +
         job["metadata"].value("namespace", "default") + ".svc";
}

Json JobLabels(const Json& job) {
  return {{"app.kubernetes.io/managed-by", "anneal-operator"},
          {"anneal.dev/job-kind", job.value("kind", "")},
          {"anneal.dev/job-name", NameOf(job)}};
}

std::string JobSelector(const Json& job) {
  return "anneal.dev/job-kind=" + job.value("kind", "") + ",anneal.dev/job-name=" + NameOf(job);
}

bool BelongsTo(const Json& object, const std::string& uid) {
  const Json owners = object["metadata"].value("ownerReferences", Json::array());
  return std::any_of(owners.begin(), owners.end(), [&](const Json& owner) { return owner.value("uid", "") == uid; });
}

Json OwnerReference(const Json& job) {
  return {{"apiVersion", job["apiVersion"]}, {"kind", job["kind"]}, {"name", job["metadata"]["name"]},
          {"uid", job["metadata"]["uid"]},   {"controller", true},  {"blockOwnerDeletion", true}};
}

void AddMount(WorkerPlan& plan, const std::string& name, const Json& source, const std::string& path, bool read_only,
              const std::string& sub_path) {
  const auto same = [&](const Json& volume) { return volume["name"] == name; };
  if (std::none_of(plan.volumes.begin(), plan.volumes.end(), same)) {
    Json volume = source;
    volume["name"] = name;
    plan.volumes.push_back(volume);
  }
  Json mount = {{"name", name}, {"mountPath", path}, {"readOnly", read_only}};
  if (!sub_path.empty()) mount["subPath"] = sub_path;
  plan.mounts.push_back(mount);
}

void AddDestination(WorkerPlan& plan, const std::string& flag, const Json& artifact, const Json& job) {
  std::string uri = artifact.value("uri", "");
  if (artifact.contains("claimName")) {
    AddMount(plan, "artifacts", {{"persistentVolumeClaim", {{"claimName", artifact["claimName"]}}}}, kArtifacts, false);
    uri = std::string("file://") + kArtifacts + "/" + artifact.value("path", NameOf(job));
  }
  plan.args.insert(plan.args.end(), {flag, uri});
  const Json s3 = artifact.value("s3", Json::object());
  for (const char* field : {"endpoint", "region"}) {
    if (s3.contains(field))
      plan.args.insert(plan.args.end(), {std::string("--s3_") + field, s3[field].get<std::string>()});
  }
  if (s3.contains("secretRef")) plan.env_from.push_back({{"secretRef", {{"name", s3["secretRef"]["name"]}}}});
}

void AddDataVolumes(WorkerPlan& plan, const Json& spec) {
  for (const Json& volume : spec.value("data", Json::object()).value("volumes", Json::array())) {
    const bool cache = volume.contains("ephemeralCache");
    const Json source = cache ? Json{{"emptyDir", {{"sizeLimit", volume["ephemeralCache"]["size"]}}}}
                        : volume.contains("claimName")
                            ? Json{{"persistentVolumeClaim", {{"claimName", volume["claimName"]}}}}
                            : Json{{"hostPath", {{"path", volume["hostPath"]}}}};
    AddMount(plan, "data-" + volume["name"].get<std::string>(), source, volume["mountPath"],
             !cache && volume.value("readOnly", true), volume.value("subPath", ""));
  }
  int number = 0;
  for (const Json& secret : spec.value("data", Json::object()).value("credentials", Json::array())) {
    const std::string name = secret["secretRef"]["name"];
    if (secret.value("as", "Env") == "Env") {
      plan.env_from.push_back({{"secretRef", {{"name", name}}}});
    } else {
      AddMount(plan, "secret-" + std::to_string(number++), {{"secret", {{"secretName", name}, {"defaultMode", 0440}}}},
               secret["mountPath"], true);
    }
  }
}

Json WorkerPod(const Json& job, int index, const WorkerPlan& plan) {
  const Json& spec = job["spec"];
  const Json& workers = spec["workers"];
  const Json& run = job["status"]["run"];
  const int number = run["number"], attempt = run["attempt"];
  WorkerPlan full = plan;
  AddMount(full, "config",
           {{"configMap",
             {{"name", SnapshotName(NameOf(job), number)}, {"items", {{{"key", kConfigKey}, {"path", kConfigKey}}}}}}},
           kConfigFolder, true);
  AddMount(full, "shm", {{"emptyDir", {{"medium", "Memory"}, {"sizeLimit", workers["shmSize"]}}}}, "/dev/shm", false);
  AddMount(full, "tmp", {{"emptyDir", Json::object()}}, "/tmp", false);
  Json args = Json::array();
  for (const std::string& arg : full.args) args.push_back(Replace(arg, "{index}", std::to_string(index)));
  Json container = {{"name", "worker"},
                    {"image", full.image},
                    {"command", {"anneal"}},
                    {"args", args},
                    {"env", Environment(job, index)},
                    {"resources", Resources(spec)},
                    {"ports", {{{"name", "progress"}, {"containerPort", kProgressPort}}}},
                    {"terminationMessagePolicy", "FallbackToLogsOnError"},
                    {"securityContext", ContainerSecurity(spec)},
                    {"volumeMounts", full.mounts}};
  if (!full.env_from.empty()) container["envFrom"] = full.env_from;
  if (spec.contains("imagePullPolicy")) container["imagePullPolicy"] = spec["imagePullPolicy"];
  Json pod_spec = {{"restartPolicy", "Never"},
                   {"hostname", PodName(job, number, attempt, index)},
                   {"terminationGracePeriodSeconds", workers["terminationGracePeriodSeconds"]},
                   {"automountServiceAccountToken", false},
                   {"enableServiceLinks", false},
                   {"securityContext",
                    {{"runAsNonRoot", true},
                     {"runAsUser", 65532},
                     {"fsGroup", 65532},
                     {"fsGroupChangePolicy", "OnRootMismatch"},  // else every start walks the whole checkpoint volume
                     {"seccompProfile", {{"type", "RuntimeDefault"}}}}},
                   {"volumes", full.volumes}};
  for (const char* field : {"nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"}) {
    if (workers.contains(field)) pod_spec[field] = workers[field];
  }
  if (workers.value("hostNetwork", false)) {
    pod_spec["hostNetwork"] = true;
    pod_spec["dnsPolicy"] = "ClusterFirstWithHostNet";  // the Service's names have to resolve
  }
  for (const char* field : {"serviceAccountName", "imagePullSecrets"}) {
    if (spec.contains(field)) pod_spec[field] = spec[field];
  }
  AvoidNodes(run.value("avoidNodes", Json()), pod_spec);
  pod_spec["containers"] = Json::array({container});
  Json pod = {{"metadata", {{"labels", Json::object()}}}, {"spec", pod_spec}};
  ApplyScheduling(job, pod);
  if (workers.contains("podTemplate")) pod = StrategicMerge(pod, workers["podTemplate"]);
  pod["spec"]["restartPolicy"] = "Never";
  pod["spec"]["hostname"] = pod_spec["hostname"];
  if (HasService(job)) pod["spec"]["subdomain"] = ServiceName(job);
  Json& metadata = pod["metadata"];
  metadata["name"] = PodName(job, number, attempt, index);
  metadata["labels"].update(JobLabels(job));
  metadata["labels"]["anneal.dev/run"] = std::to_string(number);
  metadata["labels"]["anneal.dev/attempt"] = std::to_string(attempt);
  metadata["labels"]["anneal.dev/index"] = std::to_string(index);
  metadata["ownerReferences"] = Json::array({OwnerReference(job)});
  return pod;
}

Json HeadlessService(const Json& job) {
  return {{"metadata",
           {{"name", ServiceName(job)}, {"labels", JobLabels(job)}, {"ownerReferences", {OwnerReference(job)}}}},
          {"spec",
           {{"clusterIP", "None"},
            {"publishNotReadyAddresses", true},
            {"selector", {{"anneal.dev/job-kind", job["kind"]}, {"anneal.dev/job-name", job["metadata"]["name"]}}},
            {"ports", {{{"name", "rendezvous"}, {"port", job["spec"]["rendezvous"]["port"]}}}}}}};
}

}  // namespace anneal::controllers
