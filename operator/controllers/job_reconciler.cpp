#include "operator/controllers/job_reconciler.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"
#include "operator/controllers/config_check.h"
#include "operator/controllers/gang.h"
#include "operator/controllers/policies/events.h"
#include "operator/controllers/policies/pod_problems.h"
#include "operator/controllers/policies/run_start.h"

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
  Json job;
  try {
    // Defaults once more: an object stored by an older version may lack newer fields.
    job = api::DefaultAndValidate(resource_, *found);
  } catch (const ApiError& error) {
    RefuseSpec(*found, error.what());
    return {};
  }
  try {
    return ReconcileJob(*found, job);
  } catch (const ApiError&) {
    throw;
  } catch (const std::exception& error) {
    Report(job, {"ReconcileError", error.what()});
    throw;
  }
}

kube::ReconcileResult JobReconciler::ReconcileJob(const Json& found, const Json& job) {
  const kube::Key key{job["metadata"].value("namespace", ""), job["metadata"]["name"]};
  Observed observed;
  observed.job = job;
  observed.now = clock_.Now();
  observed.inputs = Gather(job);
  kube::ListOptions mine;
  mine.label_selector = JobSelector(job);
  for (Json& pod : api_.List(resources::kPod, key.ns, mine).items) {
    if (Owns(job, pod)) observed.pods.push_back(std::move(pod));
  }
  ConfirmPods(observed);
  observed.progress = poller_.Latest(resource_, key, observed.pods, job.value("status", Json::object()));
  const Decision decision = Decide(observed, Traits(job));
  Json next = job;
  WriteStatus(found, decision.status, next);
  std::optional<std::chrono::milliseconds> look_again = decision.requeue_after;
  try {
    if (!Act(next, decision, observed.inputs)) look_again = std::chrono::seconds(1);
  } catch (const ApiError& error) {
    // A conflict and what passes by itself are no news.
    if (!error.conflict() && error.status() < 500 && error.status() != 429 && error.status() != 0)
      Report(next, WhyRefused(error));
    throw;
  }
  return {look_again};
}

// Status first, and on the version that was read: a decision from old facts is refused with a conflict.
void JobReconciler::WriteStatus(const Json& found, const Json& next, Json& job) {
  const Json before = found.value("status", Json::object());
  job["status"] = next;
  if (next == before) return;
  Json status = next;
  for (const auto& [field, value] : before.items()) {
    if (!status.contains(field)) status[field] = nullptr;
    // A list is replaced by a merge patch, an object is merged: what left it has to be named.
    if (value.is_object() && status[field].is_object()) {
      for (const auto& [inner, old] : value.items()) {
        if (!status[field].contains(inner)) status[field][inner] = nullptr;
      }
    }
  }
  const Json& metadata = found["metadata"];
  const Json patch = {{"metadata", {{"resourceVersion", metadata["resourceVersion"]}}}, {"status", status}};
  const Json written =
      api_.MergePatchStatus(resource_, metadata.value("namespace", "default"), metadata["name"], patch);
  job["metadata"] = written["metadata"];
  Tell(job, before, next);
}

void JobReconciler::Tell(const Json& job, const Json& before, const Json& after) {
  if (!recorder_) return;
  for (const kube::EventFact& event : EventsOf(before, after)) recorder_->Record(job, event);
}

// Nothing is done for a job whose spec says what no version of this operator understands; the others go on.
void JobReconciler::RefuseSpec(const Json& found, const std::string& faults) {
  Json status = found.value("status", Json::object()), job = found;
  const int64_t generation = found["metadata"].value("generation", int64_t{1});
  status["observedGeneration"] = generation;
  if (!status.contains("phase")) status["phase"] = "Pending";
  api::SetReadiness(status, {false, false, true}, "InvalidSpec", faults, generation, clock_.Now());
  WriteStatus(found, status, job);
}

// A list may be older than what this operator did: a pod that seems to be gone is asked for by name before it counts as
// lost.
void JobReconciler::ConfirmPods(Observed& observed) {
  const Json run = observed.job.value("status", Json::object()).value("run", Json::object());
  if (!run.contains("createdAttempt") || run["createdAttempt"] != run["attempt"]) return;
  const Json& status = observed.job["status"];
  if (RunHasEnded(status) || status.value("phase", "") == "Suspended") return;
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
void JobReconciler::Report(const Json& job, const PodProblem& problem) {
  Json status = job.value("status", Json::object()), ignored = job;
  const Json blocked = {{"reason", problem.reason}, {"message", problem.message.substr(0, 1024)}};
  if (status.contains("run")) {
    if (status["run"].value("blocked", Json()) == blocked) return;
    status["run"]["blocked"] = blocked;
  }
  const int64_t generation = job["metadata"].value("generation", int64_t{1});
  api::SetCondition(status, "WorkersReady", false, problem.reason, problem.message, generation, clock_.Now());
  api::SetReadiness(status, {}, problem.reason, problem.message, generation, clock_.Now());
  if (!status.contains("phase")) status["phase"] = "Pending";
  try {
    WriteStatus(job, status, ignored);
  } catch (const ApiError&) {
    // The first error is the one to hand on.
  }
}

// False: a pod that the list did not show was there already. The list was old, and its event may have come before.
bool JobReconciler::Act(const Json& job, const Decision& decision, const RunInputs& inputs) {
  const std::string ns = job["metadata"].value("namespace", "default");
  for (const Json& pod : decision.remove) Remove(resources::kPod, pod, decision.grace);
  for (const Json& pod : decision.force) Remove(resources::kPod, pod, 0);
  if (decision.remove_run_objects) ForgetRuns(job, job["status"]["run"]["number"].get<int>() + 1);
  if (decision.create.empty()) return true;
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
  bool all_new = true;
  for (const int index : decision.create)
    all_new = Ensure(resources::kPod, job, WorkerPod(job, index, plan)) && all_new;
  return all_new;
}

void JobReconciler::Remove(const kube::Resource& resource, const Json& object, std::optional<int64_t> grace) {
  // The very object that was read: not another of its name, and, unless it is given up, not one that has changed since
  // (a worker that failed meanwhile keeps its log).
  kube::Preconditions same;
  same.uid = object["metadata"]["uid"].get<std::string>();
  if (grace != 0) same.resource_version = object["metadata"]["resourceVersion"].get<std::string>();
  try {
    api_.Delete(resource, object["metadata"].value("namespace", "default"), object["metadata"]["name"], same, grace);
  } catch (const ApiError& error) {
    if (!error.not_found()) throw;  // a conflict: all is read again
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

bool JobReconciler::Ensure(const kube::Resource& resource, const Json& job, const Json& object) {
  const std::string ns = job["metadata"].value("namespace", "default");
  try {
    api_.Create(resource, ns, object);
    return true;
  } catch (const ApiError& error) {
    if (!error.already_exists()) throw;
    const std::string name = object["metadata"]["name"];
    const auto there = kube::Find(api_, resource, ns, name);
    if (!there) throw;
    if (!object["metadata"].contains("ownerReferences") || Owns(job, *there)) return false;
    throw ApiError(409, "AlreadyExists", resource.kind + " " + name + " exists and belongs to something else");
  }
}

bool JobReconciler::HasOwnConfig(const Json& job) {
  const Json config = job["spec"].value("config", Json::object());
  return config.contains("inline") || config.contains("configMapRef");
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

std::string EditJson(const Json& first, const Json& second) {
  Json edits = first.is_object() ? first : Json::object();
  if (second.is_object()) edits.update(second);
  return edits.dump();
}

}  // namespace anneal::controllers
