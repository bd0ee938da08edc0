#include "operator/controllers/job_reconciler.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"
#include "operator/api/spec_hash.h"
#include "operator/controllers/config_check.h"
#include "operator/controllers/gang.h"
#include "operator/controllers/policies/events.h"
#include "operator/controllers/policies/pod_problems.h"
#include "operator/controllers/policies/run_start.h"
#include "operator/controllers/run_snapshot.h"
#include "operator/controllers/source_model.h"
#include "operator/kube/merge_patch.h"

namespace anneal::controllers {

using kube::ApiError;
using kube::Json;
namespace resources = kube::resources;

namespace {

bool IsConfigOf(const Json& run, const std::string& config) {
  return api::Sha256(config) == run.value("configHash", "");
}

/// Whether the run began with these run fields, whatever its source is now.
bool IsSpecOf(const Json& run, const kube::Resource& resource, const Json& spec) {
  return api::SpecHash(resource, spec, run.value("inputs", Json())) == run.value("specHash", "");
}

}  // namespace

kube::ReconcileResult JobReconciler::Reconcile(const kube::Key& key) {
  const auto found = kube::Find(api_, resource_, key.ns, key.name);
  if (!found) {
    poller_.Forget(resource_, key);
    if (own_writes_) own_writes_->Forget(resource_, key);
    return {};
  }
  return Look(*found);
}

// Status is written before anything is made: a job without one has no children, unless somebody has taken it away.
kube::ReconcileResult JobReconciler::Welcome(const kube::Key& key) {
  const auto found = kube::Find(api_, resource_, key.ns, key.name);
  if (!found || !found->value("status", Json::object()).empty()) return {};
  kube::ListOptions mine;
  mine.label_selector = JobSelector(*found);
  const auto pods = api_.List(resources::kPod, key.ns, mine).items;
  if (std::any_of(pods.begin(), pods.end(), [&](const Json& pod) { return Owns(*found, pod); })) return {};
  return Look(*found);
}

kube::ReconcileResult JobReconciler::Look(const Json& found) {
  Json job;
  try {
    // Defaults once more: an object stored by an older version may lack newer fields.
    job = api::DefaultAndValidate(resource_, found);
  } catch (const ApiError& error) {
    RefuseSpec(found, error.what());
    return {};
  }
  try {
    return ReconcileJob(found, job);
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
  observed.now = clock_.Now();
  observed.inputs = Gather(job);
  observed.wanted = job["spec"];
  observed.hash = observed.inputs.ready ? api::SpecHash(resource_, job["spec"], observed.inputs.identity) : "";
  observed.job = AsBegun(job, observed.hash);
  observed.pods = PodsOf(job);
  ConfirmPods(observed);
  observed.progress = poller_.Latest(resource_, key, observed.pods, job.value("status", Json::object()));
  const Decision decision = Decide(observed, Traits(observed.job));
  Json next = decision.begun ? job : std::move(observed.job);
  const bool written = WriteStatus(found, decision.status, next);
  std::optional<std::chrono::milliseconds> look_again = decision.requeue_after;
  try {
    if (!Act(next, written, decision, observed.inputs)) look_again = std::chrono::seconds(1);
  } catch (const ApiError& error) {
    // A conflict and what passes by itself are no news.
    if (!error.conflict() && error.status() < 500 && error.status() != 429 && error.status() != 0)
      Report(next, WhyRefused(error));
    throw;
  }
  return {look_again};
}

// While a run goes on, a changed spec waits: the run is judged, and its pods are made, by the one that it began with.
Json JobReconciler::AsBegun(const Json& job, const std::string& hash) {
  const Json status = job.value("status", Json::object());
  if (!status.contains("run") || RunHasEnded(status)) return job;
  const Json& run = status["run"];
  if (run.value("specHash", "") == hash || IsSpecOf(run, resource_, job["spec"])) return job;
  if (const auto snapshot = SnapshotOf(job); snapshot && !snapshot->spec.is_null())
    return AsOfRun(resource_, job, *snapshot);
  Json begun = job;  // nobody knows the spec any more, but how many pods there are
  if (const int desired = status.value("workers", Json::object()).value("desired", 0); desired > 0)
    begun["spec"]["workers"]["numNodes"] = desired;
  return begun;
}

std::optional<RunSnapshot> JobReconciler::SnapshotOf(const Json& job) {
  const Json& metadata = job["metadata"];
  return FindSnapshot(api_, metadata.value("namespace", "default"), metadata["name"], metadata["uid"],
                      job["status"]["run"]["number"]);
}

// Status first, and on the version that was read: a decision from old facts is refused with a conflict. False: there
// was nothing to write.
bool JobReconciler::WriteStatus(const Json& found, const Json& next, Json& job) {
  const Json before = found.value("status", Json::object());
  job["status"] = next;
  if (next == before) return false;
  const Json& metadata = found["metadata"];
  const Json patch = {{"metadata", {{"resourceVersion", metadata["resourceVersion"]}}},
                      {"status", kube::MergePatchOf(before, next)}};
  const Json written =
      api_.MergePatchStatus(resource_, metadata.value("namespace", "default"), metadata["name"], patch);
  job["metadata"] = written["metadata"];
  if (own_writes_) {
    own_writes_->Wrote(resource_, {metadata.value("namespace", ""), metadata["name"]},
                       job["metadata"].value("resourceVersion", ""));
  }
  Tell(job, before, next);
  if (written_) written_(resource_, before, next);
  return true;
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

std::vector<Json> JobReconciler::PodsOf(const Json& job) {
  std::vector<Json> pods;
  if (!children_) {
    kube::ListOptions mine;
    mine.label_selector = JobSelector(job);
    for (Json& pod : api_.List(resources::kPod, job["metadata"].value("namespace", "default"), mine).items) {
      if (Owns(job, pod)) pods.push_back(std::move(pod));
    }
    return pods;
  }
  kube::ChildCache::Children children = children_->Of(job["metadata"]["uid"], clock_.Now());
  for (const kube::Key& key : children.unsure) {
    auto pod = kube::Find(api_, resources::kPod, key.ns, key.name);
    if (!pod || !Owns(job, *pod)) {
      children_->NotMade(key);
      continue;
    }
    children_->Made(*pod, clock_.Now());
    children.known.push_back(std::move(*pod));
  }
  return std::move(children.known);
}

// What is known may be older than what this operator, or the one before it, did. A pod that seems to be gone is asked
// for by name: one of this attempt before it counts as lost, one of an older attempt before others are made.
void JobReconciler::ConfirmPods(Observed& observed) {
  const Json status = observed.job.value("status", Json::object());
  if (!status.contains("run") || RunHasEnded(status) || status.value("phase", "") == "Suspended") return;
  const Json& run = status["run"];
  Json attempts = run.value("olderPods", Json::array());
  if (run.value("createdAttempt", 0) == run["attempt"]) {
    attempts = {
        {{"run", run["number"]}, {"attempt", run["attempt"]}, {"nodes", observed.job["spec"]["workers"]["numNodes"]}}};
  }
  const std::string ns = observed.job["metadata"].value("namespace", "default");
  for (const Json& attempt : attempts) {
    for (int index = 0; index < attempt["nodes"]; ++index) {
      const std::string name = PodName(observed.job, attempt["run"], attempt["attempt"], index);
      if (std::any_of(observed.pods.begin(), observed.pods.end(),
                      [&](const Json& pod) { return pod["metadata"]["name"] == name; }))
        continue;
      auto pod = kube::Find(api_, resources::kPod, ns, name);
      if (pod && Owns(observed.job, *pod)) observed.pods.push_back(std::move(*pod));
    }
  }
}

bool JobReconciler::Owns(const Json& job, const Json& object) { return BelongsTo(object, job["metadata"]["uid"]); }

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

// `fresh`: the job was written on the version read, so it is the newest. False: a pod that the list did not show was
// there already. The list was old, and its event may have come before.
bool JobReconciler::Act(const Json& job, bool fresh, const Decision& decision, const RunInputs& inputs) {
  const std::string ns = job["metadata"].value("namespace", "default");
  for (const Json& pod : decision.remove) Remove(resources::kPod, pod, decision.grace);
  for (const Json& pod : decision.force) Remove(resources::kPod, pod, 0);
  if (decision.remove_run_objects) ForgetRuns(job, job["status"]["run"]["number"].get<int>() + 1);
  if (decision.begun && !KeepSnapshot(job, true, inputs)) return true;
  if (decision.create.empty()) return true;
  // Pods follow from the job that was read: were it an old copy, they would be pods of an attempt that is over.
  if (!fresh) {
    const auto now = kube::Find(api_, resource_, ns, job["metadata"]["name"]);
    if (!now || (*now)["metadata"]["resourceVersion"] != job["metadata"]["resourceVersion"])
      throw ApiError(409, "Conflict", "the job has been modified since it was read");
  }
  if (!decision.begun && !KeepSnapshot(job, false, inputs)) return true;
  if (HasService(job)) Ensure(resources::kService, job, HeadlessService(job));
  const int run = job["status"]["run"]["number"];
  ForgetRuns(job, run - job["spec"].value("historyLimit", 5));
  PrepareMore(job);
  const WorkerPlan plan = Plan(job);
  if (UsesVolcano(job)) Ensure(kPodGroup, job, VolcanoPodGroup(job, WorkerPod(job, 0, plan)));
  bool all_new = true;
  for (const int index : decision.create) all_new = MakePod(job, WorkerPod(job, index, plan)) && all_new;
  return all_new;
}

// Until a watch has told of the pod, the cache counts it as made, or as perhaps made when the answer is lost.
bool JobReconciler::MakePod(const Json& job, const Json& pod) {
  if (!children_) return Ensure(resources::kPod, job, pod);
  const kube::Key key{job["metadata"].value("namespace", "default"), pod["metadata"]["name"]};
  children_->Expect(key, job["metadata"]["uid"]);
  try {
    children_->Made(api_.Create(resources::kPod, key.ns, pod), clock_.Now());
    return true;
  } catch (const ApiError& error) {
    if (!error.already_exists()) {
      if (error.status() >= 400 && error.status() < 500) children_->NotMade(key);
      throw;
    }
  }
  children_->Made(OwnOne(resources::kPod, job, pod), clock_.Now());
  return false;
}

// The snapshot of what the run is made from. False: that is lost, and told.
bool JobReconciler::KeepSnapshot(const Json& job, bool begun, const RunInputs& inputs) {
  if (!begun && SnapshotOf(job)) return true;  // a run that has just begun has none yet
  const Json& run = job["status"]["run"];
  const auto config = RunConfig(job, inputs);
  const std::string of_run = " of run " + run["number"].dump();
  if (!config) {
    Report(job, {"ConfigLost", "the config" + of_run + " was not kept and " +
                                   (inputs.ready ? "is another by now" : "cannot be had: " + inputs.message)});
    return false;
  }
  if (!begun && !IsSpecOf(run, resource_, job["spec"])) {
    Report(job, {"ConfigLost",
                 "the spec" + of_run +
                     " was not kept and is another by now: set it back, or let updatePolicy.running be Restart"});
    return false;
  }
  Ensure(resources::kConfigMap, job, ConfigSnapshot(job, *config));
  return true;
}

// The config that the run began with. Its source may have moved on before a snapshot was made: then the source's own
// snapshot of the run that this one is made from still tells.
std::optional<std::string> JobReconciler::RunConfig(const Json& job, const RunInputs& inputs) {
  const Json& run = job["status"]["run"];
  if (inputs.ready && IsConfigOf(run, inputs.config)) return inputs.config;
  const Json from = run.value("inputs", Json::object());
  if (!from.contains("trainJob")) return std::nullopt;
  auto source =
      FindSnapshot(api_, job["metadata"].value("namespace", "default"), from["trainJob"], from["uid"], from["run"]);
  if (!source || !IsConfigOf(run, source->config)) return std::nullopt;
  return std::move(source->config);
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
  if (first <= 1) return;
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
  try {
    api_.Create(resource, job["metadata"].value("namespace", "default"), object);
    return true;
  } catch (const ApiError& error) {
    if (!error.already_exists()) throw;
  }
  OwnOne(resource, job, object);
  return false;
}

// The object of that name that is there already: the job's own, or one that never had an owner.
Json JobReconciler::OwnOne(const kube::Resource& resource, const Json& job, const Json& object) {
  const std::string name = object["metadata"]["name"];
  const auto there = kube::Find(api_, resource, job["metadata"].value("namespace", "default"), name);
  if (!there) throw ApiError(409, "Conflict", resource.kind + " " + name + " was there and is gone");
  if (!object["metadata"].contains("ownerReferences") || Owns(job, *there)) return *there;
  throw ApiError(409, "AlreadyExists", resource.kind + " " + name + " exists and belongs to something else");
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
