// What the cluster does to a job's pods: waiting, refusals, disruptions, lost nodes, hangs, baselines.
#include "operator/controllers/gang.h"
#include "operator/controllers/policies/failure_policy.h"
#include "operator/controllers/policies/gates.h"
#include "operator/controllers/policies/pod_problems.h"
#include "operator/local/manifests.h"
#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

using resources::kEvalJob;
using resources::kPod;
using resources::kTrainJob;

class Outside : public testing::Test {
 protected:
  void Start(const Json& spec = Json::object()) {
    const std::string folder = std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/";
    for (const char* file : {"configmap.yaml", "trainjob.yaml"}) {
      for (const auto& manifest : local::LoadManifests(folder + file)) local::Apply(cluster.api, manifest);
    }
    if (!spec.empty()) cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", spec}});
    cluster.Settle();
  }
  void PodStatus(const std::string& pod, const char* status) {
    cluster.api.MergePatchStatus(kPod, "default", pod, {{"status", Json::parse(status)}});
  }
  Json Status() { return cluster.Get(kTrainJob, "movielens")["status"]; }
  Json Condition(const std::string& type) { return api::FindCondition(Status(), type); }
  bool Exists(const std::string& pod) {
    const auto pods = cluster.Pods();
    return std::find(pods.begin(), pods.end(), pod) != pods.end();
  }

  FakeCluster cluster;
};

TEST_F(Outside, WaitingPodsSayWhyAndWhatToDo) {
  cluster.hold_pending = true;
  Start({{"failurePolicy", {{"pendingTimeoutSeconds", 600}}}});
  PodStatus(
      "movielens-r1-a1-w0",
      R"({"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]})");
  cluster.Settle();
  EXPECT_EQ(Condition("WorkersReady")["reason"], "Unschedulable");
  EXPECT_EQ(Condition("WorkersReady")["message"],
            "1 of 2 workers: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.; check "
            "workers.resources, gpusPerNode, nodeSelector, "
            "tolerations and that the claims are bound");
  // A wrong image is graver than a full cluster.
  PodStatus(
      "movielens-r1-a1-w1",
      R"({"phase":"Pending","containerStatuses":[{"name":"worker","state":{"waiting":{"reason":"ImagePullBackOff","message":"no such image"}}}]})");
  cluster.Settle();
  EXPECT_EQ(Condition("WorkersReady")["reason"], "ImagePullError");
  EXPECT_EQ(Condition("Reconciling")["status"], "True");
  cluster.Advance(601);
  EXPECT_EQ(Status()["failure"]["reason"], "PendingTimeout");
  EXPECT_NE(Status()["failure"]["message"].get<std::string>().find("ImagePullBackOff: no such image; check spec.image"),
            std::string::npos);
}

TEST_F(Outside, ACorrectedSpecIsNotKeptWaitingByARunThatNeverStarted) {
  cluster.hold_pending = true;
  Start();
  PodStatus(
      "movielens-r1-a1-w0",
      R"({"phase":"Pending","containerStatuses":[{"name":"worker","state":{"waiting":{"reason":"ImagePullBackOff"}}}]})");
  cluster.Settle();
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"image", "anneal-worker:right"}}}});
  cluster.Settle();
  EXPECT_EQ(Status()["run"]["number"], 2);
  EXPECT_FALSE(Exists("movielens-r1-a1-w0"));
  EXPECT_EQ(cluster.Get(kPod, "movielens-r2-a1-w0")["spec"]["containers"][0]["image"], "anneal-worker:right");
  cluster.hold_pending = false;
  cluster.Settle();
  EXPECT_EQ(Status()["phase"], "Running");
  // One that has run is worth finishing first.
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"image", "anneal-worker:newer"}}}});
  cluster.Settle();
  EXPECT_EQ(Status()["run"]["number"], 2);
  EXPECT_EQ(Condition("SpecChangePending")["status"], "True");
}

TEST_F(Outside, ACompleteRunIsDoneToTheLastPercent) {
  Start();
  cluster.api.MergePatchStatus(kTrainJob, "default", "movielens", {{"status", {{"progress", {{"percent", "98%"}}}}}});
  for (const char* pod : {"movielens-r1-a1-w0", "movielens-r1-a1-w1"}) cluster.End(pod, 0, R"({"globalStep":10})");
  cluster.Settle();
  EXPECT_EQ(Status()["phase"], "Complete");
  EXPECT_EQ(Status()["progress"]["percent"], "100%");
}

TEST_F(Outside, AQueueWithoutQuota) {
  cluster.hold_pending = true;
  Start();
  const char* gated =
      R"({"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated","message":"gated"}]})";
  for (const char* pod : {"movielens-r1-a1-w0", "movielens-r1-a1-w1"}) PodStatus(pod, gated);
  cluster.Settle();
  EXPECT_EQ(Condition("Admitted")["status"], "False");
  EXPECT_EQ(Condition("Admitted")["reason"], "QuotaPending");
  cluster.hold_pending = false;
  cluster.Settle();
  EXPECT_EQ(Condition("Admitted")["status"], "True");
  EXPECT_EQ(Status()["phase"], "Running");
}

TEST_F(Outside, RefusedCreatesAreInStatus) {
  int writes = 0;
  cluster.api.SetFault([&](const std::string& verb, const kube::Resource& resource) {
    if (verb == "create" && resource == kPod)
      throw kube::ApiError(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: gpu");
    if (verb == "patch-status") ++writes;
  });
  Start();
  EXPECT_EQ(Condition("WorkersReady")["reason"], "QuotaExceeded");
  EXPECT_NE(Condition("Ready")["message"].get<std::string>().find("raise the namespace's ResourceQuota"),
            std::string::npos);
  EXPECT_EQ(Condition("Reconciling")["status"], "True");
  writes = 0;
  const std::string before = cluster.Get(kTrainJob, "movielens")["metadata"]["resourceVersion"];
  cluster.Settle();
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["metadata"]["resourceVersion"], before);  // no flapping while it lasts
  EXPECT_EQ(writes, 0);
  cluster.api.SetFault(nullptr);
  cluster.Settle();
  EXPECT_EQ(Status()["phase"], "Running");
  EXPECT_EQ(Condition("WorkersReady")["reason"], "AllRunning");
}

TEST_F(Outside, AKindThatIsNotInstalledStopsOnlyTheJobThatNeedsItUntilItIs) {
  cluster.api.SetFault([](const std::string&, const kube::Resource& resource) {
    if (resource == controllers::kPodGroup)
      throw kube::ApiError(404, "NotFound", "the server could not find podgroups");
  });
  Start({{"scheduling", {{"gang", {{"mode", "Volcano"}}}}}});
  EXPECT_EQ(Condition("WorkersReady")["reason"], "MissingKind");
  EXPECT_TRUE(cluster.Pods().empty());
  Json other = cluster.Get(kTrainJob, "movielens");
  other["metadata"] = {{"name", "other"}, {"namespace", "default"}};
  other["spec"].erase("scheduling");
  other.erase("status");
  cluster.api.Create(kTrainJob, "default", other);
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "other"), "Running");
  cluster.api.SetFault(nullptr);
  cluster.Settle();
  EXPECT_EQ(Status()["phase"], "Running");
}

TEST_F(Outside, ADrainedPodRestartsAllAtOnceAndDoesNotCount) {
  Start();
  cluster.hold_deleted = true;
  PodStatus(
      "movielens-r1-a1-w1",
      R"({"conditions":[{"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI","message":"drained"}]})");
  cluster.api.Delete(kPod, "default", "movielens-r1-a1-w1", {}, {});
  cluster.Settle();
  // Worker 0 is told to write its checkpoint while worker 1 still can.
  EXPECT_TRUE(cluster.Get(kPod, "movielens-r1-a1-w0")["metadata"].contains("deletionTimestamp"));
  EXPECT_EQ(Status()["problems"][0]["reason"], "EvictionByEvictionAPI");
  EXPECT_FALSE(Exists("movielens-r1-a2-w0"));
  cluster.hold_deleted = false;
  cluster.Advance(20);
  EXPECT_EQ(Status()["run"]["attempt"], 2);
  EXPECT_EQ(Status()["run"]["countedRestarts"], 0);
  EXPECT_EQ(Status()["phase"], "Running");
}

TEST_F(Outside, ALostNode) {
  Start({{"failurePolicy", {{"nodeLostTimeoutSeconds", 100}}}});
  cluster.hold_deleted = true;  // its kubelet answers nobody
  const std::string since = kube::FormatTime(cluster.clock.now);
  PodStatus("movielens-r1-a1-w1", (R"({"conditions":[{"type":"Ready","status":"False","lastTransitionTime":")" + since +
                                   R"("},{"type":"ContainersReady","status":"True"}]})")
                                      .c_str());
  cluster.Advance(50);
  EXPECT_EQ(Status()["phase"], "Running");
  cluster.Advance(60);
  EXPECT_EQ(Status()["problems"][0]["reason"], "NodeLost");
  EXPECT_FALSE(Exists("movielens-r1-a1-w1"));  // given up
  EXPECT_TRUE(Exists("movielens-r1-a1-w0"));   // its node lives, but without the other it can't come to a checkpoint
  EXPECT_EQ(cluster.Get(kPod, "movielens-r1-a1-w0")["metadata"]["deletionGracePeriodSeconds"], 30);
  cluster.hold_deleted = false;
  cluster.Advance(20);
  EXPECT_EQ(Status()["phase"], "Running");
  EXPECT_EQ(Status()["run"]["countedRestarts"], 0);
}

TEST_F(Outside, ASilentNodeIsLookedAtAgainWhenItIsDue) {
  Start({{"failurePolicy", {{"nodeLostTimeoutSeconds", 100}}}});
  const std::string since = kube::FormatTime(cluster.clock.now);
  PodStatus("movielens-r1-a1-w0", (R"({"conditions":[{"type":"Ready","status":"False","lastTransitionTime":")" + since +
                                   R"("},{"type":"ContainersReady","status":"True"}]})")
                                      .c_str());
  const auto reconcilers = controllers::MakeReconcilers({cluster.api, cluster.clock, cluster.poller});
  const auto result = reconcilers.front()->Reconcile({"default", "movielens"});
  ASSERT_EQ(reconcilers.front()->resource(), kube::resources::kTrainJob);
  ASSERT_TRUE(result.requeue_after.has_value());
  EXPECT_LE(*result.requeue_after, std::chrono::seconds(101));  // nobody else would wake the job: the node is silent
}

TEST_F(Outside, APodThatNeverEndsIsGivenUp) {
  Start({{"failurePolicy", {{"nodeLostTimeoutSeconds", 100}}}, {"workers", {{"terminationGracePeriodSeconds", 30}}}});
  cluster.hold_deleted = true;
  cluster.End("movielens-r1-a1-w0", 1);
  cluster.Settle();
  cluster.Advance(120);
  EXPECT_TRUE(Exists("movielens-r1-a1-w1"));
  cluster.Advance(20);
  EXPECT_FALSE(Exists("movielens-r1-a1-w1"));
  EXPECT_EQ(Status()["phase"], "Running");
  EXPECT_EQ(Status()["run"]["attempt"], 2);
}

TEST_F(Outside, TheWorkersContainerIsFoundByName) {
  Start();
  for (const char* pod : {"movielens-r1-a1-w0", "movielens-r1-a1-w1"}) {
    PodStatus(pod, R"({"phase":"Failed","containerStatuses":[{"name":"aaa","state":{"terminated":{"exitCode":0}}},
      {"name":"worker","state":{"terminated":{"exitCode":78,"reason":"Error","message":"{\"message\":\"row 7\"}"}}}]})");
  }
  cluster.Settle();
  EXPECT_EQ(Status()["failure"]["reason"], "DataInvalid");
  EXPECT_NE(Status()["failure"]["message"].get<std::string>().find("row 7"), std::string::npos);
}

TEST_F(Outside, WarmStartTakesTheLatestRunThatHasACheckpoint) {
  Start({{"warmStart", {{"previousRun", true}}}});
  auto warm = [&](const std::string& pod) {
    const Json args = cluster.Get(kPod, pod)["spec"]["containers"][0]["args"];
    const auto at = std::find(args.begin(), args.end(), "--fine_tune_checkpoint");
    return at == args.end() ? std::string() : (at + 1)->get<std::string>();
  };
  auto again = [&](const char* epochs) {
    cluster.api.MergePatch(kTrainJob, "default", "movielens",
                           {{"spec", {{"config", {{"edits", {{"train_config.num_epochs", epochs}}}}}}}});
    cluster.Settle();
  };
  EXPECT_EQ(warm("movielens-r1-a1-w0"), "");
  cluster.End("movielens-r1-a1-w0", 0, R"({"checkpoint":{"step":9}})");
  cluster.End("movielens-r1-a1-w1", 0);
  cluster.Settle();
  again("2");
  const std::string first =
      "/mnt/model/r1-" + cluster.Get(kTrainJob, "movielens")["metadata"]["uid"].get<std::string>().substr(0, 8);
  EXPECT_EQ(warm("movielens-r2-a1-w0"), first);
  cluster.End("movielens-r2-a1-w0", 78);  // dies without a checkpoint
  cluster.Settle();
  again("3");
  EXPECT_EQ(warm("movielens-r3-a1-w0"), first);
}

TEST_F(Outside, SnapshotsOfForgottenRunsAreDeleted) {
  Start({{"historyLimit", 2}});
  for (int run = 1; run <= 5; ++run) {
    for (const char* worker : {"0", "1"}) cluster.End("movielens-r" + std::to_string(run) + "-a1-w" + worker, 0);
    cluster.Settle();
    cluster.api.MergePatch(kTrainJob, "default", "movielens",
                           {{"metadata", {{"annotations", {{"anneal.dev/run-requested-at", std::to_string(run)}}}}}});
    cluster.Settle();
  }
  EXPECT_EQ(Status()["run"]["number"], 6);
  EXPECT_EQ(Status()["history"].size(), 2u);
  std::vector<std::string> snapshots;
  for (const Json& map : cluster.api.List(resources::kConfigMap, "", {}).items)
    snapshots.push_back(map["metadata"]["name"]);
  EXPECT_EQ(snapshots, (std::vector<std::string>{"movielens-config", "movielens-r4-config", "movielens-r5-config",
                                                 "movielens-r6-config"}));
}

class Baselines : public Outside {
 protected:
  /// An EvalJob over the finished TrainJob whose gate is relative to that.
  void Evaluate(const std::string& name, const char* gate) {
    cluster.api.Create(kEvalJob, "default",
                       {{"metadata", {{"name", name}}},
                        {"spec",
                         {{"source", {{"trainJobRef", {{"name", "movielens"}}}}},
                          {"workers", {{"gpusPerNode", 0}}},
                          {"rendezvous", {{"backend", "gloo"}}},
                          {"gates", Json::array({Json::parse(gate)})}}}});
    cluster.Settle();
  }
  void Trained() {
    Start();
    cluster.End("movielens-r1-a1-w0", 0, R"({"checkpoint":{"step":9}})");
    cluster.End("movielens-r1-a1-w1", 0);
    cluster.Settle();
  }
  Json Eval(const std::string& name) { return cluster.Get(kEvalJob, name)["status"]; }
  void Finish(const std::string& name, const char* metrics) {
    cluster.End(name + "-r1-a1-w0", 0, std::string(R"({"metrics":)") + metrics + "}");
    cluster.Settle();
  }
};

TEST_F(Baselines, AConfigMap) {
  Trained();
  Evaluate("gate",
           R"({"metric":"auc","relativeTo":{"baselineConfigMap":{"name":"champion","key":"auc"},"maxDrop":"0.001"}})");
  EXPECT_EQ(Eval("gate")["phase"], "Pending");
  EXPECT_EQ(api::FindCondition(Eval("gate"), "Stalled")["message"],
            "spec.gates[0]: ConfigMap champion, key auc is not there");
  cluster.api.Create(resources::kConfigMap, "default",
                     {{"metadata", {{"name", "champion"}}}, {"data", {{"auc", "0.7500\n"}}}});
  cluster.Advance(31);
  EXPECT_EQ(Eval("gate")["phase"], "Running");
  // What counts is the value when the run began.
  cluster.api.MergePatch(resources::kConfigMap, "default", "champion", {{"data", {{"auc", "0.9"}}}});
  cluster.Settle();
  Finish("gate", R"({"auc":0.7491})");
  EXPECT_TRUE(api::IsTrue(Eval("gate"), "GatePassed"));
  EXPECT_EQ(Eval("gate")["gates"][0]["baseline"], "0.7500");
  EXPECT_EQ(Eval("gate")["gates"][0]["threshold"], "0.749000");
  EXPECT_EQ(Eval("gate")["run"]["number"], 1);
}

TEST_F(Baselines, AnotherEvalJob) {
  Trained();
  Evaluate("gate", R"({"metric":"logloss","op":"LTE","relativeTo":{"evalJobRef":{"name":"base"},"maxDrop":"0.01"}})");
  EXPECT_EQ(api::FindCondition(Eval("gate"), "Ready")["reason"], "WaitingForBaseline");
  EXPECT_FALSE(api::IsTrue(Eval("gate"), "Stalled"));
  Evaluate("base", R"({"metric":"logloss","op":"LTE","threshold":"1"})");
  Finish("base", R"({"logloss":0.5})");
  EXPECT_EQ(Eval("gate")["phase"], "Running");
  Finish("gate", R"({"logloss":0.52})");
  EXPECT_FALSE(api::IsTrue(Eval("gate"), "GatePassed"));
  EXPECT_EQ(api::FindCondition(Eval("gate"), "GatePassed")["message"],
            "logloss is 0.520000, must be LTE 0.510000 (baseline 0.500000)");
}

}  // namespace
}  // namespace anneal::tests
