#include "tests/fault/invariants.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"

namespace anneal::fault {
namespace {

using kube::Json;
namespace resources = kube::resources;

std::string NameOf(const Json& object) {
  return object.value("kind", "") + " " + object["metadata"]["name"].get<std::string>();
}
std::string UidOf(const Json& object) { return object["metadata"]["uid"]; }
int64_t Label(const Json& pod, const char* name) {
  return std::atoll(pod["metadata"].value("labels", Json::object()).value(name, "0").c_str());
}
/// "job-uid run attempt index"
std::string WorkerOf(const Json& job, const Json& pod) {
  return UidOf(job) + " " + std::to_string(Label(pod, "anneal.dev/run")) + " " +
         std::to_string(Label(pod, "anneal.dev/attempt")) + " " + std::to_string(Label(pod, "anneal.dev/index"));
}
/// What of the job's spec every pod of a run has to have in common.
std::string SpecOf(const Json& pod) {
  const Json& worker = pod["spec"]["containers"][0];
  const Json& args = worker["args"];
  std::string spec = worker["image"];
  for (size_t i = 0; i + 1 < args.size(); ++i) {
    if (args[i] == "--edit_config_json" || args[i] == "--nnodes") spec += " " + args[i + 1].get<std::string>();
  }
  return spec;
}
std::string ModelOf(const Json& job) {
  const Json inputs = job["status"]["run"].value("inputs", Json::object());
  return inputs.value("uid", "") + " " + inputs.value("run", Json(0)).dump() + " " + inputs.value("step", "");
}

}  // namespace

void Invariants::Broken(const std::string& text) {
  if (broken_.size() < 20) broken_.push_back(text);
}

const Json* Invariants::OwnerOf(const Json& object) const {
  const Json owners = object["metadata"].value("ownerReferences", Json::array());
  for (const Json& owner : owners) {
    const auto found = objects_.find(owner.value("uid", ""));
    if (found != objects_.end()) return &found->second;
  }
  return nullptr;
}

void Invariants::Observe(const kube::Resource& resource, kube::EventType type, const Json& object,
                         const std::string& writer) {
  const std::string uid = UidOf(object);
  const bool is_job = api::FindKind(resource) != nullptr, late = writer == "late",
             by_operator = writer == "operator" || late;
  const bool owned = !object["metadata"].value("ownerReferences", Json::array()).empty() ||
                     object["metadata"].value("labels", Json::object()).contains("anneal.dev/job-name");
  if (by_operator && !is_job && !owned) Broken("the operator wrote to " + NameOf(object) + ", which is not its own");
  if (resource == resources::kPod) {
    const bool goes = type == kube::EventType::kDeleted || object["metadata"].contains("deletionTimestamp");
    if (type == kube::EventType::kAdded && late) late_.insert(uid);
    if (goes && by_operator) removed_.insert(uid);
    if (goes && !removed_.count(uid)) PodTaken(object);
  }
  if (type == kube::EventType::kDeleted) {
    if (by_operator && is_job) Broken("the operator deleted " + NameOf(object));
    objects_.erase(uid);
    return;
  }
  if (type == kube::EventType::kAdded && !late) {
    ++made_[resource.plural + "/" + object["metadata"].value("namespace", "") + "/" +
            object["metadata"]["name"].get<std::string>()];
    if (resource == resources::kPod && owned) PodMade(object);
  }
  if (is_job && by_operator && objects_.count(uid) && objects_[uid].value("spec", Json()) != object["spec"])
    Broken("the operator changed the spec of " + NameOf(object));
  if (is_job && object.contains("status")) StatusWritten(resource, object);
  objects_[uid] = object;
}

void Invariants::PodMade(const Json& pod) {
  const Json* job = OwnerOf(pod);
  if (!job) return;  // its job is deleted: the garbage collector takes it
  const int64_t run = Label(pod, "anneal.dev/run"), attempt = Label(pod, "anneal.dev/attempt"),
                index = Label(pod, "anneal.dev/index");
  const Json status = job->value("status", Json::object());
  const Json current = status.value("run", Json::object());
  if (current.value("number", int64_t{0}) != run || current.value("attempt", int64_t{0}) != attempt)
    Broken(NameOf(pod) + " was made before its attempt stood in status, or after it was over");
  if (index < 0 || index >= (*job)["spec"]["workers"].value("numNodes", int64_t{1}))
    Broken(NameOf(pod) + " is a worker that the job does not have");
  if (!workers_.insert(WorkerOf(*job, pod)).second) Broken(NameOf(pod) + " was made twice");
  const std::string spec = SpecOf(pod),
                    first = specs_.try_emplace(UidOf(*job) + " " + std::to_string(run), spec).first->second;
  if (spec != first) Broken(NameOf(pod) + " was made from \"" + spec + "\", its run from \"" + first + "\"");
  for (const auto& [other_uid, other] : objects_) {
    if (other.value("kind", "") != "Pod" || OwnerOf(other) != job) continue;
    if (late_.count(other_uid)) continue;  // came between the leader's look and this; it is deleted when it is seen
    if (Label(other, "anneal.dev/run") != run || Label(other, "anneal.dev/attempt") != attempt)
      Broken(NameOf(pod) + " was made while " + NameOf(other) + " of another attempt is there");
  }
  const std::string phase = status.value("phase", "");
  if (phase == "Complete" || phase == "Failed" || phase == "Suspended")
    Broken(NameOf(pod) + " was made for a job that is " + phase);
  if (job->value("kind", "") == "ExportJob" && (*job)["spec"]["source"].contains("evalJobRef") &&
      !passed_.count(ModelOf(*job)))
    Broken(NameOf(pod) + " exports a model that passed no gate");
}

// Somebody else deleted a pod before the operator had seen all pods of the attempt: it cannot know that it was there,
// and makes it once more.
void Invariants::PodTaken(const Json& pod) {
  const Json* job = OwnerOf(pod);
  if (!job) return;
  const Json run = job->value("status", Json::object()).value("run", Json::object());
  if (run.value("createdAttempt", int64_t{0}) != Label(pod, "anneal.dev/attempt")) workers_.erase(WorkerOf(*job, pod));
}

void Invariants::StatusWritten(const kube::Resource& resource, const Json& job) {
  const Json& status = job["status"];
  const std::string name = NameOf(job), phase = status.value("phase", "");
  CheckConditions(name, status);
  JobFacts& before = jobs_[UidOf(job)];
  const int64_t seen = status.value("observedGeneration", int64_t{0});
  if (seen < before.generation) Broken(name + ": observedGeneration went back");
  if (seen > job["metadata"].value("generation", int64_t{1})) Broken(name + ": observedGeneration is ahead");
  before.generation = seen;
  const Json run = status.value("run", Json::object());
  const int64_t number = run.value("number", int64_t{0}), attempt = run.value("attempt", int64_t{0});
  if (number < before.run) Broken(name + ": the run number went back");
  if (number > before.run + 1) Broken(name + ": a run number was left out");
  if (number == before.run) {
    if (attempt < before.attempt) Broken(name + ": the attempt went back");
    if (attempt > before.attempt + 1) Broken(name + ": an attempt was left out");
    if (run.value("restarts", int64_t{0}) < before.restarts) Broken(name + ": restarts went back");
    if (run.value("countedRestarts", int64_t{0}) < before.counted) Broken(name + ": counted restarts went back");
    if (!before.ended.empty() && phase + run.value("completionTime", "") != before.ended)
      Broken(name + ": the end of run " + std::to_string(number) + " changed from " + before.ended + " to " + phase);
  } else {
    before.ended.clear();
  }
  before.run = number;
  before.attempt = attempt;
  before.restarts = run.value("restarts", int64_t{0});
  before.counted = run.value("countedRestarts", int64_t{0});
  const bool ended = number > 0 && (phase == "Complete" || phase == "Failed");
  if (ended) before.ended = phase + run.value("completionTime", "");
  for (const char* end : {"Complete", "Failed"}) {
    if (number > 0 && api::IsTrue(status, end) != (phase == end))
      Broken(name + ": condition " + end + " does not fit phase " + phase);
  }
  if (before.counted > job["spec"]["failurePolicy"].value("maxRestarts", int64_t{3}))
    Broken(name + ": more restarts than failurePolicy.maxRestarts");
  int64_t newer = number;
  const Json history = status.value("history", Json::array());
  for (const Json& entry : history) {
    if (entry["number"].get<int64_t>() >= newer) Broken(name + ": the history is out of order");
    newer = entry["number"];
  }
  if (history.size() > job["spec"].value("historyLimit", size_t{5})) Broken(name + ": the history is too long");
  if (resource == resources::kEvalJob && ended && api::IsTrue(status, "GatePassed")) passed_.insert(ModelOf(job));
}

void Invariants::CheckConditions(const std::string& name, const Json& status) {
  static const std::set<std::string> phases = {"Pending",    "Starting",  "Running",  "Restarting",
                                               "Suspending", "Suspended", "Complete", "Failed"};
  if (!phases.count(status.value("phase", ""))) Broken(name + ": phase '" + status.value("phase", "") + "'");
  std::set<std::string> types;
  const Json conditions = status.value("conditions", Json::array());
  for (const Json& condition : conditions) {
    if (!types.insert(condition["type"]).second)
      Broken(name + ": condition " + condition["type"].get<std::string>() + " stands there twice");
    if (condition.value("reason", "").empty()) Broken(name + ": a condition without a reason");
  }
  for (const char* needed : {"Ready", "Reconciling", "Stalled"}) {
    if (!types.count(needed)) Broken(name + ": condition " + needed + " is missing");
  }
}

}  // namespace anneal::fault
