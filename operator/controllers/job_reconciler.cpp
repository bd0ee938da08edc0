#include "operator/controllers/job_reconciler.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"
#include "operator/controllers/config_check.h"
#include "operator/controllers/gang.h"
#include "operator/controllers/policies/pod_problems.h"

namespace anneal::controllers {

using kube::ApiError;
using kube::Json;
namespace resources = kube::resources;

kube::ReconcileResult JobReconciler::Reconcile(const kube::Key& key) {
  const auto found = kube::Find(api_, resource_, key.ns, key.name);
  if (!found) {
    poller_.Forget(resource_, key);
    return {};
  }
  // Defaults once more: an object stored by an older version may lack newer fields.
  Observed observed;
  observed.job = api::DefaultAndValidate(resource_, *found);
  observed.now = clock_.Now();
  observed.inputs = Gather(observed.job);
  kube::ListOptions mine;
  mine.label_selector = JobSelector(observed.job);
  for (Json& pod : api_.List(resources::kPod, key.ns, mine).items) {
    if (Owns(observed.job, pod)) observed.pods.push_back(std::move(pod));
  }
  ConfirmPods(observed);
  observed.progress = poller_.Latest(resource_, key, observed.pods, observed.job.value("status", Json::object()));
  const Decision decision = Decide(observed, Traits(observed.job));

  // Status first, and on the version that was read: a decision from old facts is refused with a conflict.
  Json job = observed.job;
  const Json before = found->value("status", Json::object());
  if (decision.status != before) {
    Json patch = {{"metadata", {{"resourceVersion", (*found)["metadata"]["resourceVersion"]}}}};
    Json status = decision.status;
    for (const auto& [field, value] : before.items()) {
      if (!status.contains(field)) status[field] = nullptr;
      // A list is replaced by a merge patch, an object is merged: what left it has to be named.
      if (value.is_object() && status[field].is_object()) {
        for (const auto& [inner, old] : value.items()) {
          if (!status[field].contains(inner)) status[field][inner] = nullptr;
        }
      }
    }
    patch["status"] = status;
    job["metadata"] = api_.MergePatchStatus(resource_, key.ns, key.name, patch)["metadata"];
  }
  job["status"] = decision.status;
  try {
    Act(job, decision, observed.inputs);
  } catch (const ApiError& error) {
    if (!error.conflict()) Report(job, error);
    throw;
  }
  return {decision.requeue_after};
}

// A list may be older than what this operator did: a pod that seems to be gone is asked for by name before it counts as
// lost.
void JobReconciler::ConfirmPods(Observed& observed) {
  const Json run = observed.job.value("status", Json::object()).value("run", Json::object());
  if (!run.contains("createdAttempt") || run["createdAttempt"] != run["attempt"]) return;
  const std::string phase = observed.job["status"].value("phase", "");
  if (phase == "Complete" || phase == "Failed" || phase == "Suspended") return;
  const int pods = Traits(observed.job).pods;
  for (int index = 0; index < pods; ++index) {
    const std::string name = PodName(observed.job, run["number"], run["attempt"], index);
    if (std::any_of(observed.pods.begin(), observed.pods.end(),
                    [&](const Json& pod) { return pod["metadata"]["name"] == name; }))
      continue;
    auto pod = kube::Find(api_, resources::kPod, observed.job["metadata"].value("namespace", "default"), name);
    if (pod && Owns(observed.job, *pod)) observed.pods.push_back(std::move(*pod));
  }
}

bool JobReconciler::Owns(const Json& job, const Json& object) {
  const Json owners = object["metadata"].value("ownerReferences", Json::array());
  return std::any_of(owners.begin(), owners.end(),
                     [&](const Json& owner) { return owner.value("uid", "") == job["metadata"]["uid"]; });
}

// What could not be done is in status, not only in the log: a user reads the job.
void JobReconciler::Report(const Json& job, const ApiError& error) {
  const PodProblem problem = WhyRefused(error);
  if (error.status() >= 500 || error.status() == 429) return;  // passes by itself: no write for every hiccup
  Json status = job["status"];
  const Json blocked = {{"reason", problem.reason}, {"message", problem.message.substr(0, 1024)}};
  if (!status.contains("run") || status["run"].value("blocked", Json()) == blocked) return;
  status["run"]["blocked"] = blocked;
  const int64_t generation = job["metadata"].value("generation", int64_t{1});
  for (const auto& [type, value] :
       {std::pair{"WorkersReady", false}, {"Ready", false}, {"Reconciling", true}, {"Stalled", false}}) {
    api::SetCondition(status, type, value, problem.reason, problem.message, generation, clock_.Now());
  }
  const Json patch = {{"metadata", {{"resourceVersion", job["metadata"]["resourceVersion"]}}},
                      {"status", {{"run", {{"blocked", blocked}}}, {"conditions", status["conditions"]}}}};
  try {
    api_.MergePatchStatus(resource_, job["metadata"].value("namespace", "default"), job["metadata"]["name"], patch);
  } catch (const ApiError&) {
    // The create's own error is the one to hand on.
  }
}

void JobReconciler::Act(const Json& job, const Decision& decision, const RunInputs& inputs) {
  const std::string ns = job["metadata"].value("namespace", "default");
  for (const Json& pod : decision.remove) Remove(resources::kPod, pod, decision.grace);
  for (const Json& pod : decision.force) Remove(resources::kPod, pod, 0);
  if (decision.remove_run_objects) ForgetRuns(job, job["status"]["run"]["number"].get<int>() + 1);
  if (decision.create.empty()) return;
  // Pods follow from the job that was read: were it an old copy, they would be pods of an attempt that is over.
  const auto now = kube::Find(api_, resource_, ns, job["metadata"]["name"]);
  if (!now || (*now)["metadata"]["resourceVersion"] != job["metadata"]["resourceVersion"]) {
    throw ApiError(409, "Conflict", "the job has been modified since it was read");
  }
  Ensure(resources::kService, job, HeadlessService(job));
  const int run = job["status"]["run"]["number"];
  const std::string snapshot = SnapshotName(job["metadata"]["name"], run);
  if (!kube::Find(api_, resources::kConfigMap, ns, snapshot)) {
    if (!inputs.ready) throw std::runtime_error("config snapshot " + snapshot + " is gone and its source is not ready");
    Ensure(resources::kConfigMap, job, ConfigSnapshot(job, inputs.config));
  }
  ForgetRuns(job, run - job["spec"].value("historyLimit", 5));
  PrepareMore(job);
  const WorkerPlan plan = Plan(job);
  if (UsesVolcano(job)) Ensure(kPodGroup, job, VolcanoPodGroup(job, WorkerPod(job, 0, plan)));
  for (const int index : decision.create) Ensure(resources::kPod, job, WorkerPod(job, index, plan));
}

void JobReconciler::Remove(const kube::Resource& resource, const Json& object, std::optional<int64_t> grace) {
  kube::Preconditions same;
  same.uid = object["metadata"]["uid"].get<std::string>();
  try {
    api_.Delete(resource, object["metadata"].value("namespace", "default"), object["metadata"]["name"], same, grace);
  } catch (const ApiError& error) {
    if (!error.not_found() && !error.conflict()) throw;  // gone already, or another object of the name
  }
}

// Config snapshots and pod groups of runs before `first`; the Service too when none is left.
void JobReconciler::ForgetRuns(const Json& job, int first) {
  const std::string ns = job["metadata"].value("namespace", "default");
  kube::ListOptions mine;
  mine.label_selector = JobSelector(job);
  std::vector<kube::Resource> kinds = {resources::kConfigMap};
  if (UsesVolcano(job)) kinds.push_back(kPodGroup);
  for (const kube::Resource& kind : kinds) {
    for (const Json& object : api_.List(kind, ns, mine).items) {
      const int run = std::atoi(object["metadata"]["labels"].value("anneal.dev/run", "0").c_str());
      if (Owns(job, object) && run < first) Remove(kind, object, std::nullopt);
    }
  }
  if (first <= job["status"]["run"]["number"]) return;
  if (const auto service = kube::Find(api_, resources::kService, ns, ServiceName(job));
      service && Owns(job, *service)) {
    Remove(resources::kService, *service, std::nullopt);
  }
}

void JobReconciler::Ensure(const kube::Resource& resource, const Json& job, const Json& object) {
  const std::string ns = job["metadata"].value("namespace", "default");
  try {
    api_.Create(resource, ns, object);
  } catch (const ApiError& error) {
    if (!error.already_exists()) throw;
    const std::string name = object["metadata"]["name"];
    const auto there = kube::Find(api_, resource, ns, name);
    if (!there) throw;
    if (!object["metadata"].contains("ownerReferences")) return;
    if (Owns(job, *there)) return;
    throw ApiError(409, "AlreadyExists", resource.kind + " " + name + " exists and belongs to something else");
  }
}

bool JobReconciler::ResolveConfig(const Json& job, RunInputs& inputs) {
  const Json& config = job["spec"]["config"];
  std::string where = "spec.config.inline";
  if (config.contains("inline")) {
    inputs.config = config["inline"];
  } else {
    const std::string name = config["configMapRef"]["name"], key = config["configMapRef"]["key"];
    where = "ConfigMap " + name + ", key " + key;
    const auto map = kube::Find(api_, resources::kConfigMap, job["metadata"].value("namespace", "default"), name);
    if (!map || !map->value("data", Json::object()).contains(key)) {
      inputs.reason = "ReferenceNotFound";
      inputs.message = where + " is not there";
      return false;
    }
    inputs.config = (*map)["data"][key];
  }
  const std::string faults = CheckConfig(inputs.config, config.value("edits", Json::object()), where);
  if (faults.empty()) return true;
  inputs.invalid = true;
  inputs.stalled = true;
  inputs.reason = "ConfigInvalid";
  inputs.message = faults;
  return false;
}

std::vector<std::string> LaunchArguments(const Json& job) {
  const Json& workers = job["spec"]["workers"];
  const int processes = workers.value("procsPerNode", std::max(1, workers["gpusPerNode"].get<int>()));
  return {"launch",
          "--nnodes",
          workers["numNodes"].dump(),
          "--node-rank",
          "{index}",
          "--nproc-per-node",
          std::to_string(processes),
          "--master-addr",
          MasterAddress(job),
          "--master-port",
          job["spec"]["rendezvous"]["port"].dump(),
          "--"};
}

std::optional<SourceModel> ResolveTrainJob(kube::Api& api, const std::string& ns, const Json& reference,
                                           RunInputs& inputs) {
  const std::string name = reference["name"], checkpoint = reference["checkpoint"];
  auto wait = [&](const std::string& reason, const std::string& message, bool stalled) -> std::optional<SourceModel> {
    inputs.reason = reason;
    inputs.message = message;
    inputs.stalled = stalled;
    return std::nullopt;
  };
  const auto found = kube::Find(api, resources::kTrainJob, ns, name);
  if (!found) return wait("WaitingForSource", "TrainJob " + name + " is not there", false);
  const Json train = api::DefaultAndValidate(resources::kTrainJob, *found);
  const Json status = train.value("status", Json::object());
  const std::string phase = status.value("phase", "Pending");
  if (phase == "Failed") {
    return wait("SourceFailed",
                "TrainJob " + name + " failed: " + status.value("failure", Json::object()).value("message", ""), true);
  }
  if (phase != "Complete") return wait("WaitingForSource", "TrainJob " + name + " is " + phase, false);
  const Json& spec = train["spec"];
  const int run = status["run"]["number"];
  const Json last = status.value("progress", Json::object()).value("lastCheckpoint", Json::object());
  if (checkpoint == "Latest" && !last.contains("step")) {
    return wait("ReferenceNotFound", "TrainJob " + name + " reported no checkpoint", true);
  }
  const std::string step = checkpoint == "Latest" ? last["step"].dump() : checkpoint;
  SourceModel model;
  const Json volume = spec["checkpoint"].value("volume", Json::object());
  model.identity = {{"trainJob", name},
                    {"uid", train["metadata"]["uid"]},
                    {"run", run},
                    {"step", step},
                    {"mount", spec["checkpoint"]["modelDir"]},
                    {"modelDir", spec["checkpoint"]["modelDir"].get<std::string>() + "/r" + std::to_string(run)},
                    {"claim", volume.contains("claimName")       ? volume["claimName"]
                              : volume.contains("claimTemplate") ? Json(ClaimName(name))
                                                                 : Json("")},
                    {"subPath", volume.value("subPath", "")},
                    {"image", spec["image"]},
                    {"evalInputPath", spec.value("data", Json::object()).value("evalInputPath", "")},
                    {"edits", spec["config"].value("edits", Json::object())}};
  const auto snapshot = kube::Find(api, resources::kConfigMap, ns, SnapshotName(name, run));
  if (!snapshot) return wait("ReferenceNotFound", "config snapshot " + SnapshotName(name, run) + " is gone", true);
  model.config = (*snapshot)["data"]["pipeline.config"];
  return model;
}

std::string MountSource(WorkerPlan& plan, const Json& identity) {
  const std::string claim = identity["claim"];
  if (!claim.empty()) {
    AddMount(plan, "model", {{"persistentVolumeClaim", {{"claimName", claim}}}}, identity["mount"], false,
             identity["subPath"]);
  }
  return identity["modelDir"].get<std::string>() + "/model.ckpt-" + identity["step"].get<std::string>();
}

std::string EditJson(const Json& first, const Json& second) {
  Json edits = first.is_object() ? first : Json::object();
  if (second.is_object()) edits.update(second);
  return edits.dump();
}

}  // namespace anneal::controllers
