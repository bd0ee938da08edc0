#include "tests/fault/workloads.h"

#include <random>

#include "operator/api/conditions.h"
#include "operator/local/manifests.h"

namespace anneal::fault {
namespace {

using kube::Json;
using kube::resources::kConfigMap;
using kube::resources::kEvalJob;
using kube::resources::kExportJob;
using kube::resources::kPersistentVolumeClaim;
using kube::resources::kPod;
using kube::resources::kService;
using kube::resources::kTrainJob;
using Step = Workload::Step;

const char* kTrain = "movielens";
const char* kGate = "movielens-gate";
const char* kExport = "movielens-export";

int Label(const Json& pod, const char* name) { return std::atoi(pod["metadata"]["labels"].value(name, "0").c_str()); }
int Run(const Json& pod) { return Label(pod, "anneal.dev/run"); }
int Attempt(const Json& pod) { return Label(pod, "anneal.dev/attempt"); }
int Index(const Json& pod) { return Label(pod, "anneal.dev/index"); }

/// What a worker of the job's kind says when it has done its work.
Ending Done(const Json& pod, const char* auc = "0.78") {
  const std::string kind = pod["metadata"]["labels"]["anneal.dev/job-kind"];
  if (kind == "TrainJob")
    return {100, 0, R"({"globalStep":99,"metrics":{"auc":0.78,"loss":0.5},"checkpoint":{"step":99}})"};
  if (kind == "EvalJob") return {30, 0, std::string(R"({"metrics":{"auc":)") + auc + "}}"};
  return {30, 0, R"({"artifact":{"uri":"file:///x","sha256":"ab","sizeBytes":5},"metrics":{"max_abs_diff":0}})"};
}
Ending Succeeds(const Json& pod) { return Done(pod); }

void Apply(World& world, std::initializer_list<const char*> files, const Json& train_spec = Json::object()) {
  for (const char* file : files) {
    for (auto manifest :
         local::LoadManifests(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/" + file + ".yaml")) {
      if (manifest.resource == kTrainJob) manifest.object["spec"].merge_patch(train_spec);
      local::Apply(world.server, manifest);
    }
  }
}
Step Begin(std::initializer_list<const char*> files, const Json& train_spec = Json::object()) {
  return {[](World&) { return true; },
          [files = std::vector<const char*>(files), train_spec](World& world) {
            for (const char* file : files) Apply(world, {file}, train_spec);
          }};
}
Step Train(const Json& spec = Json::object()) { return Begin({"configmap", "trainjob"}, spec); }
Step Chain() { return Begin({"configmap", "trainjob", "evaljob", "exportjob"}); }

std::function<bool(World&)> Is(const kube::Resource& kind, const char* name, const char* phase, int run = 1) {
  return [=](World& world) { return world.Phase(kind, name) == phase && world.RunOf(kind, name) == run; };
}
std::function<void(World&)> Patch(const Json& spec) {
  return [spec](World& world) { world.server.MergePatch(kTrainJob, "default", kTrain, {{"spec", spec}}); };
}
std::function<void(World&)> AskForRun(const char* when) {
  return [when](World& world) {
    world.server.MergePatch(kTrainJob, "default", kTrain,
                            {{"metadata", {{"annotations", {{"anneal.dev/run-requested-at", when}}}}}});
  };
}
Json Epochs(const char* epochs) { return {{"config", {{"edits", {{"train_config.num_epochs", epochs}}}}}}; }

/// "TrainJob movielens is X, not Y" or nothing.
std::string Must(World& world, const kube::Resource& kind, const char* name, const char* phase, int run = 1) {
  if (world.Phase(kind, name) == phase && world.RunOf(kind, name) == run) return "";
  return kind.kind + " " + name + " is " + world.Phase(kind, name) + " in run " +
         std::to_string(world.RunOf(kind, name)) + ", not " + phase + " in run " + std::to_string(run);
}
std::function<std::string(World&)> Ends(const char* phase, int run = 1) {
  return [=](World& world) { return Must(world, kTrainJob, kTrain, phase, run); };
}
std::function<std::string(World&)> Fails(const char* reason) {
  return [=](World& world) {
    const std::string found = world.Status(kTrainJob, kTrain).value("failure", Json::object()).value("reason", "");
    return found == reason ? Must(world, kTrainJob, kTrain, "Failed") : "failure '" + found + "', not " + reason;
  };
}
size_t CountOf(World& world, const kube::Resource& kind) { return world.server.List(kind, "", {}).items.size(); }

std::vector<Workload> Lives() {
  return {
      {"train", "two workers succeed", Succeeds, {Train()}, Ends("Complete")},
      {"restart",
       "a worker crashes, then both are stopped, then they succeed",
       [](const Json& pod) -> Ending {
         if (Attempt(pod) == 1 && Index(pod) == 1) return {20, 1, R"({"message":"boom"})"};
         if (Attempt(pod) == 2) return {20, 143, ""};
         return Attempt(pod) == 1 ? Ending{} : Done(pod);
       },
       {Train()},
       Ends("Complete")},
      {"exhausted",
       "every attempt crashes until maxRestarts",
       [](const Json& pod) -> Ending {
         return Index(pod) == 0 ? Ending{10, 1, ""} : Ending{};
       },
       {Train({{"failurePolicy", {{"maxRestarts", 2}}}})},
       Fails("MaxRestartsExceeded")},
      {"config-error",
       "a worker ends with exit code 64",
       [](const Json& pod) -> Ending {
         return Index(pod) == 0 ? Ending{10, 64, ""} : Ending{};
       },
       {Train()},
       Fails("ConfigInvalid")},
      {"suspend",
       "suspended while it runs, resumed",
       Succeeds,
       {Train(),
        {Is(kTrainJob, kTrain, "Running"), Patch({{"suspend", true}})},
        {Is(kTrainJob, kTrain, "Suspended"), Patch({{"suspend", false}})}},
       Ends("Complete")},
      {"change-suspended",
       "the spec changes while it is suspended: the new spec is taken",
       Succeeds,
       {Train(),
        {Is(kTrainJob, kTrain, "Running"), Patch({{"suspend", true}})},
        {Is(kTrainJob, kTrain, "Suspended"), Patch(Epochs("2"))},
        {Is(kTrainJob, kTrain, "Suspended", 2), Patch({{"suspend", false}})}},
       Ends("Complete", 2)},
      {"change-queue",
       "the spec changes while it runs: run 2 after the end of run 1",
       Succeeds,
       {Train(), {Is(kTrainJob, kTrain, "Running"), Patch(Epochs("2"))}},
       Ends("Complete", 2)},
      {"change-crash",
       "the spec changes while it runs, then a worker crashes: the restart is of the old spec, run 2 of the new one",
       [](const Json& pod) -> Ending {
         if (Run(pod) == 2 || Attempt(pod) == 2) return Done(pod);
         return Index(pod) == 1 ? Ending{20, 1, R"({"message":"boom"})"} : Ending{};
       },
       {Train(), {Is(kTrainJob, kTrain, "Running"), Patch(Epochs("2"))}},
       Ends("Complete", 2)},
      {"change-restart",
       "the spec changes while it runs: run 2 at once",
       [](const Json& pod) { return Run(pod) == 1 ? Ending{} : Done(pod); },
       {Train({{"updatePolicy", {{"running", "Restart"}}}}), {Is(kTrainJob, kTrain, "Running"), Patch(Epochs("2"))}},
       Ends("Complete", 2)},
      {"run-requested",
       "run-requested-at after the end, then a changed spec",
       Succeeds,
       {Train(),
        {Is(kTrainJob, kTrain, "Complete"), AskForRun("2027-01-15T02:00:00Z")},
        {Is(kTrainJob, kTrain, "Complete", 2), Patch(Epochs("2"))}},
       Ends("Complete", 3)},
      {"ttl",
       "ttlSecondsAfterFinished takes pods, Service and snapshot; the job stays",
       Succeeds,
       {Train({{"cleanup", {{"podPolicy", "None"}, {"ttlSecondsAfterFinished", 50}}}})},
       [](World& world) {
         if (CountOf(world, kPod) + CountOf(world, kService) > 0 || CountOf(world, kConfigMap) != 1)
           return std::string("the TTL left something behind");
         return Must(world, kTrainJob, kTrain, "Complete");
       }},
      {"deadline",
       "activeDeadlineSeconds ends a run that would never end",
       [](const Json&) { return Ending{}; },
       {Train({{"activeDeadlineSeconds", 1000}})},
       [](World& world) { return CountOf(world, kPod) ? "pods live on" : Fails("DeadlineExceeded")(world); }},
      {"delete",
       "deleted while it runs",
       Succeeds,
       {Train(),
        {Is(kTrainJob, kTrain, "Running"),
         [](World& world) { world.server.Delete(kTrainJob, "default", kTrain, {}, {}); }}},
       [](World& world) {
         const size_t left = CountOf(world, kPod) + CountOf(world, kService) + CountOf(world, kTrainJob);
         return left > 0 || CountOf(world, kConfigMap) != 1 || CountOf(world, kPersistentVolumeClaim) != 1
                    ? std::string("not exactly the claim is left")
                    : std::string();
       }},
      {"recreate",
       "deleted while it runs and made again at once, with the same name",
       Succeeds,
       {Train(),
        {Is(kTrainJob, kTrain, "Running"),
         [](World& world) {
           world.server.Delete(kTrainJob, "default", kTrain, {}, {});
           Apply(world, {"trainjob"});
         }}},
       Ends("Complete")},
      {"recreate-restarting",
       "deleted and made again with the same name while a failed attempt is cleaned up",
       [](const Json& pod) -> Ending {
         if (pod["spec"]["containers"][0]["image"] == "second") return Done(pod);
         return Index(pod) == 1 ? Ending{20, 1, ""} : Ending{};
       },
       {Train(),
        {[](World& world) {
           return world.Status(kTrainJob, kTrain).value("run", Json::object()).value("attempt", 0) == 2;
         },
         [](World& world) {
           world.server.Delete(kTrainJob, "default", kTrain, {}, {});
           Apply(world, {"trainjob"}, {{"image", "second"}});
         }}},
       Ends("Complete")},
      {"pod-deleted",
       "somebody deletes a worker's pod",
       [](const Json& pod) { return Attempt(pod) == 1 ? Ending{} : Done(pod); },
       {Train(),
        {Is(kTrainJob, kTrain, "Running"),
         [](World& world) { world.server.Delete(kPod, "default", "movielens-r1-a1-w1", {}, {}); }}},
       Ends("Complete")},
      {"node-lost",
       "a node falls silent: its pod is given up and all start again",
       [](const Json& pod) { return Attempt(pod) == 1 ? Ending{} : Done(pod); },
       {Train({{"failurePolicy", {{"nodeLostTimeoutSeconds", 60}}}}),
        {Is(kTrainJob, kTrain, "Running"),
         [](World& world) {
           world.silent_node_pod = "movielens-r1-a1-w1";
           const std::string since = kube::FormatTime(world.clock.now);
           world.server.MergePatchStatus(kPod, "default", world.silent_node_pod,
                                         {{"status",
                                           {{"conditions",
                                             {{{"type", "Ready"}, {"status", "False"}, {"lastTransitionTime", since}},
                                              {{"type", "ContainersReady"}, {"status", "True"}}}}}}});
         }}},
       Ends("Complete")},
      {"name-taken",
       "a pod of somebody else has the name of a worker, for a while",
       Succeeds,
       {{[](World&) { return true; },
         [](World& world) {
           world.server.Create(
               kPod, "default",
               {{"metadata", {{"name", "movielens-r1-a1-w0"}}}, {"spec", {{"containers", {{{"name", "x"}}}}}}});
           Apply(world, {"configmap", "trainjob"});
         }},
        {[](World& world) {
           return world.Seconds() > 120 &&
                  api::FindCondition(world.Status(kTrainJob, kTrain), "WorkersReady").is_object();
         },
         [](World& world) { world.server.Delete(kPod, "default", "movielens-r1-a1-w0", {}, 0); }}},
       Ends("Complete")},
      {"gate",
       "the EvalJob follows the TrainJob and passes its gate",
       Succeeds,
       {Begin({"configmap", "trainjob", "evaljob"})},
       [](World& world) {
         return api::IsTrue(world.Status(kEvalJob, kGate), "GatePassed") ? Must(world, kEvalJob, kGate, "Complete")
                                                                         : std::string("the gate did not pass");
       }},
      {"gate-failed",
       "the gate fails: nothing is exported",
       [](const Json& pod) { return Done(pod, "0.70"); },
       {Chain()},
       [](World& world) {
         if (api::IsTrue(world.Status(kEvalJob, kGate), "GatePassed")) return std::string("the gate passed");
         const std::string phase = world.Phase(kExportJob, kExport);
         return phase == "Pending" ? Must(world, kEvalJob, kGate, "Complete") : "the ExportJob is " + phase;
       }},
      {"chain",
       "train, evaluate, export; then all of it again for run 2",
       Succeeds,
       {Chain(), {Is(kExportJob, kExport, "Complete"), AskForRun("2027-01-15T02:00:00Z")}},
       [](World& world) {
         const std::string fault =
             Must(world, kTrainJob, kTrain, "Complete", 2) + Must(world, kEvalJob, kGate, "Complete", 2);
         return fault + Must(world, kExportJob, kExport, "Complete", 2);
       }},
  };
}

}  // namespace

const std::vector<Workload>& Workloads() {
  static const std::vector<Workload> lives = Lives();
  return lives;
}

const Workload* FindWorkload(const std::string& name) {
  for (const Workload& workload : Workloads()) {
    if (workload.name == name) return &workload;
  }
  return nullptr;
}

Workload Soak(unsigned seed) {
  std::mt19937 random(seed);
  Workload soak{"soak", "random operations", nullptr, {Chain()}, nullptr};
  soak.ending = [seed](const Json& pod) -> Ending {
    std::mt19937 own(seed ^ static_cast<unsigned>(std::hash<std::string>()(pod["metadata"]["name"])));
    constexpr int kCodes[] = {0, 0, 0, 0, 0, 0, 0, 1, 76, 143};
    Ending ending = Done(pod, own() % 4 == 0 ? "0.70" : "0.78");
    ending.after_seconds = 5 + static_cast<int>(own() % 60);
    ending.code = kCodes[own() % 10];
    if (ending.code != 0) ending.message.clear();
    return ending;
  };
  int64_t at = 0;
  for (int i = 0; i < 25; ++i) {
    at += 1 + random() % 90;
    const unsigned what = random() % 6, number = random();
    soak.steps.push_back({[at](World& world) { return world.Seconds() >= at; },
                          [what, number](World& world) {
                            const bool there = world.Exists(kTrainJob, kTrain);
                            const auto pods = world.server.List(kPod, "", {}).items;
                            switch (what) {
                              case 0:
                                if (there) Patch({{"suspend", number % 2 == 0}})(world);
                                break;
                              case 1:
                                if (there) Patch(Epochs(number % 2 ? "2" : "3"))(world);
                                break;
                              case 2:
                                if (there) AskForRun(kube::FormatTime(world.clock.now).c_str())(world);
                                break;
                              case 3:
                                if (!pods.empty()) {
                                  const std::string name = pods[number % pods.size()]["metadata"]["name"];
                                  world.server.Delete(kPod, "default", name, {}, {});
                                }
                                break;
                              case 4:
                                if (there && number % 3 == 0) world.server.Delete(kTrainJob, "default", kTrain, {}, {});
                                if (!world.Exists(kTrainJob, kTrain)) Apply(world, {"trainjob"});
                                break;
                              default:
                                if (there)
                                  Patch({{"updatePolicy", {{"running", number % 2 ? "Restart" : "Queue"}}}})(world);
                            }
                          }});
  }
  soak.steps.push_back({[at](World& world) { return world.Seconds() > at; },
                        [](World& world) {
                          if (!world.Exists(kTrainJob, kTrain)) Apply(world, {"trainjob"});
                          Patch({{"suspend", false}})(world);
                        }});
  soak.expect = [](World& world) {
    const std::string phase = world.Phase(kTrainJob, kTrain);
    return phase == "Complete" || phase == "Failed" ? std::string() : "in the end the TrainJob is " + phase;
  };
  return soak;
}

}  // namespace anneal::fault
