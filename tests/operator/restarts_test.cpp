// How a run goes on after failures: waits, nodes to avoid, whether the step moves.
#include "operator/controllers/policies/failure_policy.h"
#include "operator/controllers/policies/timeouts.h"
#include "operator/controllers/policies/worker_count.h"
#include "operator/local/manifests.h"
#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

using resources::kPod;
using resources::kTrainJob;

class Restarts : public testing::Test {
 protected:
  void Start(const Json& spec) {
    const std::string folder = std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/";
    for (const char* file : {"configmap.yaml", "trainjob.yaml"}) {
      for (const auto& manifest : local::LoadManifests(folder + file)) local::Apply(cluster.api, manifest);
    }
    cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", spec}});
    cluster.Settle();
  }
  Json Status() { return cluster.Get(kTrainJob, "movielens")["status"]; }
  Json Run() { return Status()["run"]; }
  /// Seconds until the next attempt.
  int64_t Wait() {
    return std::chrono::duration_cast<std::chrono::seconds>(*kube::ParseTime(Run()["nextAttemptTime"]) -
                                                            cluster.clock.now)
        .count();
  }
  void Crash(const std::string& pod) {
    cluster.End(pod, 1);
    cluster.Settle();
  }

  FakeCluster cluster;
};

TEST_F(Restarts, TheWaitDoublesAndBeginsAnewAfterALongAttempt) {
  Start(
      {{"failurePolicy",
        {{"maxRestarts", 9}, {"backoff", {{"initialSeconds", 10}, {"maxSeconds", 600}, {"resetAfterSeconds", 500}}}}}});
  for (const int expected : {10, 20, 40}) {
    Crash("movielens-r1-a" + Run()["attempt"].dump() + "-w0");
    EXPECT_EQ(Wait(), expected);
    cluster.Advance(expected + 1);
    ASSERT_EQ(Status()["phase"], "Running");
  }
  cluster.Advance(501);
  Crash("movielens-r1-a4-w0");
  EXPECT_EQ(Wait(), 10);
  EXPECT_EQ(Run()["countedRestarts"], 4);  // a long attempt forgives the wait, not the failure
}

// What waits for the end of a run changes nothing of it: neither the pods of a restart nor what its end is judged by.
TEST_F(Restarts, ARestartKeepsTheSpecOfItsRunWhileAnotherWaits) {
  for (const std::string policy : {"Queue", "Ignore"}) {
    Start({{"image", "worker:1"},
           {"workers", {{"numNodes", 2}, {"terminationGracePeriodSeconds", 77}}},
           {"updatePolicy", {{"running", policy}}}});
    const auto pod_spec = [&](const std::string& pod) {
      Json spec = cluster.Get(kPod, pod)["spec"];
      // The attempt's own names.
      std::string text = spec.dump();
      for (size_t at; (at = text.find("-a2-")) != std::string::npos;) text.replace(at, 4, "-a1-");
      return text;
    };
    const std::string before = pod_spec("movielens-r1-a1-w1");
    cluster.api.MergePatch(kTrainJob, "default", "movielens",
                           {{"spec",
                             {{"image", "worker:2"},
                              {"workers", {{"numNodes", 1}, {"terminationGracePeriodSeconds", 5}, {"gpusPerNode", 1}}},
                              {"rendezvous", {{"port", 31000}, {"env", {{{"name", "NCCL_DEBUG"}, {"value", "INFO"}}}}}},
                              {"checkpoint", {{"modelDir", "/elsewhere"}}},
                              {"config", {{"edits", {{"train_config.num_epochs", "9"}}}}},
                              {"artifacts", {{"upload", {{"uri", "s3://models/m"}}}}},
                              {"failurePolicy", {{"maxRestarts", 7}}}}}});
    cluster.Settle();
    EXPECT_EQ(api::IsTrue(Status(), "SpecChangePending"), policy == "Queue");
    Crash("movielens-r1-a1-w0");
    cluster.Advance(3600);
    EXPECT_EQ(Run()["attempt"], 2);
    EXPECT_EQ(Run()["number"], 1);
    EXPECT_EQ(pod_spec("movielens-r1-a2-w1"), before);
    for (const char* pod : {"movielens-r1-a2-w0", "movielens-r1-a2-w1"}) {
      EXPECT_EQ(Status()["phase"], "Running");
      cluster.End(pod, 0, R"({"globalStep":9,"metrics":{"auc":0.7}})");  // no upload: it was not asked for
      cluster.Settle();
    }
    EXPECT_EQ(Run()["number"], 2) << Status().dump(1);
    EXPECT_EQ(cluster.Get(kPod, "movielens-r2-a1-w0")["spec"]["containers"][0]["image"], "worker:2");
    EXPECT_EQ(Status()["workers"]["desired"], 1);
    const Json history = Status()["history"];
    EXPECT_EQ(history[0]["result"], "Complete");
    cluster.api.Delete(kTrainJob, "default", "movielens", {}, {});
    cluster.Settle();
  }
}

// Without its snapshot nobody knows the run's own spec: no pod is made from another one.
TEST_F(Restarts, ARunWhoseSpecIsLostMakesNoPodsOfAnother) {
  Start({{"image", "worker:1"}});
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"image", "worker:2"}}}});
  cluster.Settle();
  cluster.api.Delete(resources::kConfigMap, "default", "movielens-r1-config", {}, std::nullopt);
  Crash("movielens-r1-a1-w0");
  cluster.Advance(3600);
  EXPECT_EQ(cluster.Pods(), std::vector<std::string>{});
  EXPECT_EQ(Run()["blocked"]["reason"], "ConfigLost");
  EXPECT_NE(Run()["blocked"]["message"].get<std::string>().find("the spec of run 1 was not kept"), std::string::npos);
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"image", "worker:1"}}}});
  cluster.Settle();
  EXPECT_EQ(cluster.Pods(), (std::vector<std::string>{"movielens-r1-a2-w0", "movielens-r1-a2-w1"}));
}

// A cache that lags behind knows no pods of the attempt before: no others are made while those are there.
TEST_F(Restarts, OlderPodsThatTheCacheDoesNotKnowAreAskedFor) {
  const auto look = [&](int times, const std::string& older) {  // by an operator whose watches tell nothing
    kube::ChildCache children;
    for (const auto& reconciler :
         controllers::MakeReconcilers({cluster.api, cluster.clock, cluster.poller, &children})) {
      if (reconciler->resource() != kTrainJob) continue;
      for (int i = 0; i < times; ++i) {
        reconciler->Reconcile({"default", "movielens"});
        const auto pods = cluster.Pods();
        const auto of_older =
            std::count_if(pods.begin(), pods.end(), [&](const auto& pod) { return pod.find(older) != pod.npos; });
        EXPECT_TRUE(of_older == 0 || of_older == std::ssize(pods)) << Json(pods).dump();
      }
    }
  };
  Start({{"workers", {{"numNodes", 2}}}});
  cluster.End("movielens-r1-a1-w0", 0, R"({"globalStep":9,"metrics":{"auc":0.7}})");
  cluster.End("movielens-r1-a1-w1", 0);
  cluster.Settle();
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"workers", {{"numNodes", 1}}}}}});
  look(6, "-r1-");
  EXPECT_EQ(cluster.Pods(), std::vector<std::string>{"movielens-r2-a1-w0"});
  cluster.Settle();
  cluster.End("movielens-r2-a1-w0", 1);
  look(2, "-a1-");
  cluster.clock.now += std::chrono::hours(1);
  look(6, "-a1-");
  EXPECT_EQ(cluster.Pods(), std::vector<std::string>{"movielens-r2-a2-w0"});
}

TEST_F(Restarts, NodesOfLostWorkersAreAvoidedWhereThereAreOthers) {
  Start({{"failurePolicy", {{"nodeLostTimeoutSeconds", 100}}}});
  cluster.api.MergePatch(kPod, "default", "movielens-r1-a1-w1", {{"spec", {{"nodeName", "bad-node"}}}});
  const std::string since = kube::FormatTime(cluster.clock.now);
  cluster.api.MergePatchStatus(kPod, "default", "movielens-r1-a1-w1",
                               {{"status",
                                 {{"conditions",
                                   {{{"type", "Ready"}, {"status", "False"}, {"lastTransitionTime", since}},
                                    {{"type", "ContainersReady"}, {"status", "True"}}}}}}});
  cluster.Advance(101);
  cluster.Advance(20);
  EXPECT_EQ(Run()["avoidNodes"], Json::array({"bad-node"}));
  const Json terms = cluster.Get(
      kPod,
      "movielens-r1-a2-w0")["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
  ASSERT_EQ(terms.size(), 1u);
  EXPECT_EQ(terms[0]["preference"]["matchExpressions"][0]["values"], Json::array({"bad-node"}));
}

TEST(AvoidNode, ByPolicyAndOnlyTheLatestEight) {
  controllers::FailureVerdict crash;
  crash.blamed.node = "n";
  crash.blamed.reason = "Error";
  Json run = Json::object();
  controllers::AvoidNode({{"avoidNodes", "Lost"}}, crash, run);
  EXPECT_FALSE(run.contains("avoidNodes"));
  for (int i = 0; i < 10; ++i) {
    crash.blamed.node = "n" + std::to_string(i);
    controllers::AvoidNode({{"avoidNodes", "Failed"}}, crash, run);
    controllers::AvoidNode({{"avoidNodes", "Failed"}}, crash, run);  // once each
  }
  EXPECT_EQ(run["avoidNodes"].size(), 8u);
  EXPECT_EQ(run["avoidNodes"][7], "n9");
}

TEST_F(Restarts, ProgressingTellsWhetherTheStepMoves) {
  Start({{"failurePolicy", {{"progressTimeoutSeconds", 600}}}});
  const auto progressing = [&] { return api::FindCondition(Status(), "Progressing"); };
  EXPECT_EQ(progressing()["reason"], "NoHeartbeat");
  EXPECT_EQ(progressing()["status"], "False");
  cluster.Advance(301);
  EXPECT_EQ(progressing()["reason"], "HangSuspected");
  cluster.Advance(300);  // HangTimeout: all workers restart
  EXPECT_EQ(Status()["problems"][0]["reason"], "HangTimeout");
  EXPECT_EQ(Run()["attempt"], 2);
}

TEST(JudgeProgress, AStepThatMoved) {
  const auto now = std::chrono::system_clock::from_time_t(1'800'000'000);
  const Json spec = {{"failurePolicy", {{"progressTimeoutSeconds", 100}}}};
  const Json status = {{"run", {{"attemptRunningTime", kube::FormatTime(now - std::chrono::seconds(500))}}},
                       {"progress", {{"lastStepTime", kube::FormatTime(now - std::chrono::seconds(10))}}}};
  const auto verdict = controllers::JudgeProgress(spec, status, now);
  EXPECT_TRUE(verdict.moves);
  EXPECT_EQ(verdict.reason, "StepAdvanced");
  EXPECT_EQ(verdict.look_again->count(), 40'500);  // half the limit after the step
}

TEST(JudgeProgress, AnUploadMakesNoStepAndIsNoHang) {
  const auto now = std::chrono::system_clock::from_time_t(1'800'000'000);
  const std::string long_ago = kube::FormatTime(now - std::chrono::seconds(5000));
  const Json spec = {{"failurePolicy", {{"progressTimeoutSeconds", 100}}}};
  Json status = {{"run", {{"attemptRunningTime", long_ago}, {"attemptTime", long_ago}}},
                 {"progress", {{"lastStepTime", long_ago}, {"phase", "upload"}}}};
  EXPECT_TRUE(controllers::JudgeProgress(spec, status, now).moves);
  EXPECT_EQ(controllers::CheckTimeouts(spec, status, true, now).reason, "");
  status["progress"]["phase"] = "train";
  EXPECT_FALSE(controllers::JudgeProgress(spec, status, now).moves);
  EXPECT_EQ(controllers::CheckTimeouts(spec, status, true, now).reason, "HangTimeout");
}

TEST(WorkerCount, AllRunWhenEachRunsOrHasDoneItsWork) {
  const auto pod = [](const char* phase) { return Json{{"metadata", Json::object()}, {"status", {{"phase", phase}}}}; };
  EXPECT_TRUE(controllers::CountWorkers({pod("Running"), pod("Succeeded")}, 2).all_run());
  EXPECT_FALSE(controllers::CountWorkers({pod("Running"), pod("Pending")}, 2).all_run());
  EXPECT_FALSE(controllers::CountWorkers({pod("Succeeded"), pod("Succeeded")}, 2).all_run());
}

}  // namespace
}  // namespace anneal::tests
