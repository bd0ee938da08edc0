// Whole lives of jobs on the in-memory API, with pods whose ends the test decides.
#include <fstream>
#include <set>

#include "operator/local/manifests.h"
#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

using resources::kEvalJob;
using resources::kExportJob;
using resources::kTrainJob;

const std::string kExamples = std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/";

class Reconcile : public testing::Test {
 protected:
  void Apply(const std::string& file) {
    for (const auto& manifest : local::LoadManifests(kExamples + file)) local::Apply(cluster.api, manifest);
  }
  void ApplyAll() {
    for (const char* file : {"configmap.yaml", "trainjob.yaml", "evaljob.yaml", "exportjob.yaml"}) Apply(file);
  }
  void Train(int attempt = 1, int run = 1) {
    const std::string prefix = "movielens-r" + std::to_string(run) + "-a" + std::to_string(attempt) + "-w";
    cluster.End(prefix + "0", 0,
                R"({"globalStep":99,"metrics":{"auc":0.78,"loss":0.5},"checkpoint":{"step":99,"path":"x"}})");
    cluster.End(prefix + "1", 0);
    cluster.Settle();
  }
  void Patch(const Json& spec) { cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", spec}}); }
  bool True(const kube::Resource& resource, const std::string& name, const std::string& condition) {
    return api::IsTrue(cluster.Get(resource, name)["status"], condition);
  }

  FakeCluster cluster;
};

TEST_F(Reconcile, Success) {
  ApplyAll();
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Running");
  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Pending");
  EXPECT_EQ(cluster.Pods(), (std::vector<std::string>{"movielens-r1-a1-w0", "movielens-r1-a1-w1"}));
  const Json pod = cluster.Get(resources::kPod, "movielens-r1-a1-w1");
  EXPECT_EQ(pod["spec"]["hostname"], "movielens-r1-a1-w1");
  EXPECT_EQ(pod["spec"]["restartPolicy"], "Never");
  EXPECT_EQ(pod["spec"]["securityContext"]["runAsNonRoot"], true);
  const Json& args = pod["spec"]["containers"][0]["args"];
  EXPECT_EQ(args[0], "launch");
  EXPECT_NE(std::find(args.begin(), args.end(), "--continue_train"), args.end());
  // The folder is the job's own: it carries the beginning of its UID.
  const Json job = cluster.Get(kTrainJob, "movielens");
  const std::string folder = "/mnt/model/r1-" + job["metadata"]["uid"].get<std::string>().substr(0, 8);
  EXPECT_NE(std::find(args.begin(), args.end(), folder), args.end());
  EXPECT_TRUE(cluster.Get(resources::kConfigMap, "movielens-r1-config").value("immutable", false));
  EXPECT_TRUE(True(kTrainJob, "movielens", "Reconciling"));

  Train();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Complete");
  EXPECT_TRUE(True(kTrainJob, "movielens", "Ready"));
  EXPECT_TRUE(True(kTrainJob, "movielens", "Complete"));
  EXPECT_FALSE(True(kTrainJob, "movielens", "Stalled"));
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["progress"]["auc"], "0.780000");

  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Running");
  const Json eval_args = cluster.Get(resources::kPod, "movielens-gate-r1-a1-w0")["spec"]["containers"][0]["args"];
  EXPECT_NE(std::find(eval_args.begin(), eval_args.end(), folder + "/model.ckpt-99"), eval_args.end());
  cluster.End("movielens-gate-r1-a1-w0", 0, R"({"globalStep":99,"metrics":{"auc":0.77}})");
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Complete");
  EXPECT_TRUE(True(kEvalJob, "movielens-gate", "GatePassed"));

  EXPECT_EQ(cluster.Phase(kExportJob, "movielens-export"), "Running");
  cluster.End("movielens-export-r1-a1-w0", 0,
              R"({"artifact":{"uri":"file:///x","sha256":"ab","sizeBytes":5},"metrics":{"max_abs_diff":0}})");
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kExportJob, "movielens-export"), "Complete");
  EXPECT_EQ(cluster.Get(kExportJob, "movielens-export")["status"]["artifact"]["sha256"], "ab");
  EXPECT_TRUE(True(kExportJob, "movielens-export", "Published"));

  // Nothing more is written to a finished job.
  const std::string version = cluster.Get(kTrainJob, "movielens")["metadata"]["resourceVersion"];
  cluster.Advance(3600);
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["metadata"]["resourceVersion"], version);
}

TEST_F(Reconcile, ChildrenAreMadeOnceAndNeverPatchedJobsOnlyInTheirStatus) {
  std::multiset<std::string> writes;
  ApplyAll();
  cluster.api.SetFault([&](const std::string& verb, const kube::Resource& resource) {
    if (verb == "create" || verb == "patch") writes.insert(verb + " " + resource.plural);
  });
  cluster.Settle();
  Train();
  cluster.End("movielens-gate-r1-a1-w0", 0, R"({"globalStep":99,"metrics":{"auc":0.77}})");
  cluster.Settle();
  cluster.End("movielens-export-r1-a1-w0", 0, R"({"artifact":{"uri":"file:///x","sha256":"ab","sizeBytes":5}})");
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kExportJob, "movielens-export"), "Complete");
  EXPECT_EQ(writes.count("create pods"), 4u);
  for (const std::string& write : writes) EXPECT_TRUE(write.starts_with("create ")) << write;
  for (const auto& kind : {kTrainJob, kEvalJob, kExportJob}) {
    for (const Json& job : cluster.api.List(kind, "", {}).items)
      EXPECT_FALSE(job["metadata"].contains("finalizers"))
          << job["metadata"];  // nothing that a deletion could wait for
  }
}

// Before the children are known: a job without a status gets its run and its pods, any other is left alone.
TEST_F(Reconcile, AWelcomeServesOnlyWhomNobodyHasServed) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  kube::ChildCache unknown;
  const auto reconcilers = controllers::MakeReconcilers({cluster.api, cluster.clock, cluster.poller, &unknown});
  const kube::Key key{"default", "movielens"};
  const auto welcome = [&] { reconcilers[0]->Welcome(key); };
  welcome();
  EXPECT_EQ(cluster.Pods(), (std::vector<std::string>{"movielens-r1-a1-w0", "movielens-r1-a1-w1"}));
  const Json job = cluster.Get(kTrainJob, "movielens");
  EXPECT_EQ(job["status"]["run"]["number"], 1);
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"suspend", true}}}});
  const Json changed = cluster.Get(kTrainJob, "movielens");
  welcome();
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens"), changed);
  cluster.api.Delete(kTrainJob, "default", "movielens", {}, {});
  welcome();
  // The field that says so can be selected by, in the API in memory as in the CRD.
  cluster.Settle();
  Apply("trainjob.yaml");
  const auto count = [&](const std::string& field) {
    kube::ListOptions options;
    options.field_selector = field;
    return cluster.api.List(kTrainJob, "", options).items.size();
  };
  EXPECT_EQ(count("status.phase="), 1u);
  cluster.Settle();
  EXPECT_EQ(count("status.phase="), 0u);
  EXPECT_EQ(count("status.phase=Running"), 1u);
}

TEST_F(Reconcile, GateFailedTheExportNeverStarts) {
  ApplyAll();
  cluster.Settle();
  Train();
  cluster.End("movielens-gate-r1-a1-w0", 0, R"({"metrics":{"auc":0.70}})");
  cluster.Settle();
  cluster.Advance(600);
  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Complete");
  EXPECT_FALSE(True(kEvalJob, "movielens-gate", "GatePassed"));
  EXPECT_FALSE(True(kEvalJob, "movielens-gate", "Ready"));
  EXPECT_TRUE(True(kEvalJob, "movielens-gate", "Stalled"));
  EXPECT_EQ(cluster.Phase(kExportJob, "movielens-export"), "Pending");
  EXPECT_EQ(api::FindCondition(cluster.Get(kExportJob, "movielens-export")["status"], "Stalled")["reason"],
            "GateFailed");
  for (const std::string& pod : cluster.Pods()) EXPECT_EQ(pod.find("export"), std::string::npos);
}

TEST_F(Reconcile, AMissingMetricFailsTheGate) {
  ApplyAll();
  cluster.Settle();
  Train();
  cluster.End("movielens-gate-r1-a1-w0", 0, R"({"metrics":{"auc_ctr":0.9}})");
  cluster.Settle();
  EXPECT_FALSE(True(kEvalJob, "movielens-gate", "GatePassed"));
}

TEST_F(Reconcile, ACrashRestartsAllWorkersAfterTheBackOff) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.End("movielens-r1-a1-w1", 137);
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Restarting");
  EXPECT_TRUE(cluster.Pods().empty());  // no new pod before its time, none of the old left
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["problems"][0]["exitCode"], 137);
  cluster.Advance(2);
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Running");
  EXPECT_EQ(cluster.Pods(), (std::vector<std::string>{"movielens-r1-a2-w0", "movielens-r1-a2-w1"}));
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["countedRestarts"], 1);
  Train(2);
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Complete");
}

TEST_F(Reconcile, ThePeerIsNotBlamed) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.End("movielens-r1-a1-w0", 76, R"({"message":"a peer failed"})");
  cluster.clock.now += std::chrono::seconds(1);
  cluster.End("movielens-r1-a1-w1", 1, R"({"message":"boom"})");
  cluster.Settle();
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["problems"][0]["rank"], 1);
}

TEST_F(Reconcile, ThePeersOwnEndIsWaitedForUntilItIsTold) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  // A node tells late how its worker ended; the other has noticed already.
  cluster.End("movielens-r1-a1-w1", 76, R"({"message":"rank 0 does not answer"})");
  cluster.Advance(5);
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["attempt"], 1);
  cluster.End("movielens-r1-a1-w0", 64, R"({"message":"train_config is missing"})");
  cluster.Settle();
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(status["phase"], "Failed");
  EXPECT_EQ(status["failure"]["reason"], "ConfigInvalid");
}

TEST_F(Reconcile, APeerThatTellsNothingIsNotWaitedForLong) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.End("movielens-r1-a1-w1", 76, R"({"message":"rank 0 does not answer"})");
  cluster.Advance(20);
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(status["problems"][0]["exitCode"], 76);
  EXPECT_EQ(status["run"]["attempt"], 2);
}

TEST_F(Reconcile, AConfigErrorIsNeverRetried) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.End("movielens-r1-a1-w0", 64, R"({"message":"train_config is missing"})");
  cluster.Settle();
  cluster.Advance(3600);
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(status["phase"], "Failed");
  EXPECT_EQ(status["failure"]["reason"], "ConfigInvalid");
  EXPECT_EQ(status["run"]["attempt"], 1);
  EXPECT_TRUE(True(kTrainJob, "movielens", "Stalled"));
}

TEST_F(Reconcile, AnInvalidConfigFailsBeforeAnyPod) {
  Apply("trainjob.yaml");
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Pending");  // the ConfigMap is not there yet
  cluster.api.Create(resources::kConfigMap, "default",
                     {{"metadata", {{"name", "movielens-config"}}},
                      {"data", {{"pipeline.config", "train_config {\n  num_stepss: 3\n}\n"}}}});
  cluster.Settle();
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(status["phase"], "Failed");
  EXPECT_NE(status["failure"]["message"].get<std::string>().find(":2:3: train_config.num_stepss"), std::string::npos);
  EXPECT_TRUE(cluster.Pods().empty());
}

TEST_F(Reconcile, RestartsAreExhausted) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  for (int attempt = 1; attempt <= 4; ++attempt) {
    cluster.End("movielens-r1-a" + std::to_string(attempt) + "-w0", 1);
    cluster.Settle();
    cluster.Advance(700);
  }
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(status["phase"], "Failed");
  EXPECT_EQ(status["failure"]["reason"], "MaxRestartsExceeded");
  EXPECT_EQ(status["run"]["countedRestarts"], 3);
}

TEST_F(Reconcile, BeingStoppedDoesNotCount) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  for (int attempt = 1; attempt <= 5; ++attempt) {
    cluster.End("movielens-r1-a" + std::to_string(attempt) + "-w0", 143);
    cluster.End("movielens-r1-a" + std::to_string(attempt) + "-w1", 143);
    cluster.Settle();
    cluster.Advance(700);
  }
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Running");
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["countedRestarts"], 0);
}

TEST_F(Reconcile, SuspendAndResume) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  Patch({{"suspend", true}});
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Suspended");
  EXPECT_TRUE(cluster.Pods().empty());
  EXPECT_TRUE(True(kTrainJob, "movielens", "Suspended"));
  cluster.Advance(600);
  EXPECT_TRUE(cluster.Pods().empty());
  Patch({{"suspend", false}});
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Running");
  EXPECT_EQ(cluster.Pods()[0], "movielens-r1-a2-w0");  // the same run goes on
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["countedRestarts"], 0);
  EXPECT_FALSE(True(kTrainJob, "movielens", "Suspended"));
}

TEST_F(Reconcile, AJobMadeAnewOnARetainedClaimGoesOnInAFolderOfItsOwn) {
  Apply("configmap.yaml");
  const auto folder = [&] {
    Apply("trainjob.yaml");
    cluster.Settle();
    const Json args = cluster.Get(resources::kPod, "movielens-r1-a1-w0")["spec"]["containers"][0]["args"];
    return (std::find(args.begin(), args.end(), "--model_dir") + 1)->get<std::string>();
  };
  const std::string first = folder();
  cluster.api.Delete(kTrainJob, "default", "movielens", {}, std::nullopt);
  cluster.Settle();
  const std::string second = folder();
  EXPECT_NE(first, second);
  // A restart of the same job goes on where it was.
  cluster.End("movielens-r1-a1-w1", 1);
  cluster.Settle();
  cluster.Advance(5);
  const Json args = cluster.Get(resources::kPod, "movielens-r1-a2-w0")["spec"]["containers"][0]["args"];
  EXPECT_NE(std::find(args.begin(), args.end(), second), args.end());
}

TEST_F(Reconcile, ARunOfAnOlderOperatorGoesOnInItsOldFolder) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.api.MergePatchStatus(kTrainJob, "default", "movielens", {{"status", {{"run", {{"id", "r1"}}}}}});
  cluster.End("movielens-r1-a1-w1", 1);
  cluster.Settle();
  cluster.Advance(5);
  const Json args = cluster.Get(resources::kPod, "movielens-r1-a2-w0")["spec"]["containers"][0]["args"];
  EXPECT_NE(std::find(args.begin(), args.end(), "/mnt/model/r1"), args.end());
}

TEST_F(Reconcile, OneOfTwoHasSucceededTheJobStillRuns) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.End("movielens-r1-a1-w1", 0);
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Running");
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(api::FindCondition(status, "WorkersReady")["message"], "1 of 2 workers run, 1 succeeded");
}

TEST_F(Reconcile, ASpecThatNobodyUnderstandsStopsOnlyItsOwnJob) {
  ApplyAll();
  cluster.Settle();
  // Stored by a newer version: the API server of this one would not take it.
  FakeCluster lax(nullptr);
  lax.api.Create(kTrainJob, "default", {{"metadata", {{"name", "odd"}}}, {"spec", {{"image", 7}, {"future", true}}}});
  lax.Settle();
  const Json status = lax.Get(kTrainJob, "odd")["status"];
  EXPECT_EQ(api::FindCondition(status, "Stalled")["reason"], "InvalidSpec");
  EXPECT_NE(api::FindCondition(status, "Stalled")["message"].get<std::string>().find("spec.image"), std::string::npos);
  EXPECT_EQ(lax.Get(kTrainJob, "odd")["spec"]["future"], true);  // what is not known is kept
  const std::string version = lax.Get(kTrainJob, "odd")["metadata"]["resourceVersion"];
  lax.Advance(600);
  EXPECT_EQ(lax.Get(kTrainJob, "odd")["metadata"]["resourceVersion"], version);
}

TEST_F(Reconcile, DeletedInTheMiddleLeavesOnlyTheClaim) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  cluster.api.Delete(kTrainJob, "default", "movielens", {}, std::nullopt);
  cluster.Settle();
  EXPECT_TRUE(cluster.Pods().empty());
  EXPECT_TRUE(cluster.api.List(resources::kService, "", {}).items.empty());
  EXPECT_EQ(cluster.api.List(resources::kConfigMap, "", {}).items.size(), 1u);              // the user's own
  EXPECT_EQ(cluster.api.List(resources::kPersistentVolumeClaim, "", {}).items.size(), 1u);  // retention: Retain
}

TEST_F(Reconcile, ASpecChangeAfterCompletionIsANewRunAndTheOthersFollow) {
  ApplyAll();
  cluster.Settle();
  Train();
  cluster.End("movielens-gate-r1-a1-w0", 0, R"({"metrics":{"auc":0.77}})");
  cluster.Settle();
  cluster.End("movielens-export-r1-a1-w0", 0, R"({"artifact":{"uri":"file:///x","sha256":"ab","sizeBytes":5}})");
  cluster.Settle();
  Patch({{"cleanup", {{"podPolicy", "All"}}}});  // a live field: no run
  cluster.Settle();
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["number"], 1);
  Patch({{"config", {{"edits", {{"train_config.num_epochs", "2"}}}}}});
  cluster.Settle();
  Json status = cluster.Get(kTrainJob, "movielens")["status"];
  EXPECT_EQ(status["run"]["number"], 2);
  EXPECT_EQ(status["run"]["trigger"], "SpecChange");
  EXPECT_EQ(status["history"][0]["number"], 1);
  EXPECT_EQ(status["history"][0]["result"], "Complete");
  EXPECT_FALSE(True(kTrainJob, "movielens", "Complete"));
  EXPECT_EQ(status["phase"], "Running");
  const Json args = cluster.Get(resources::kPod, "movielens-r2-a1-w0")["spec"]["containers"][0]["args"];
  const std::string folder = "/mnt/model/" + status["run"]["id"].get<std::string>();
  EXPECT_NE(std::find(args.begin(), args.end(), folder), args.end());  // an old model is never continued
  Train(1, 2);
  EXPECT_EQ(cluster.Get(kEvalJob, "movielens-gate")["status"]["run"]["number"], 2);
  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Running");
}

TEST_F(Reconcile, AnAnnotationAsksForARun) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  cluster.Settle();
  Train();
  cluster.api.MergePatch(kTrainJob, "default", "movielens",
                         {{"metadata", {{"annotations", {{"anneal.dev/run-requested-at", "2026-11-24T00:00:00Z"}}}}}});
  cluster.Settle();
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["number"], 2);
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["run"]["trigger"], "Annotation");
}

TEST_F(Reconcile, DeadlineAndTtl) {
  Apply("configmap.yaml");
  Apply("trainjob.yaml");
  Patch({{"activeDeadlineSeconds", 100}, {"cleanup", {{"ttlSecondsAfterFinished", 50}}}});
  cluster.Settle();
  cluster.Advance(101);
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["failure"]["reason"], "DeadlineExceeded");
  EXPECT_TRUE(cluster.Pods().empty());
  cluster.Advance(60);
  EXPECT_TRUE(cluster.api.List(resources::kService, "", {}).items.empty());
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Failed");  // the job itself stays
}

TEST_F(Reconcile, ForeignPodsOfTheNameAreNotTouched) {
  Apply("configmap.yaml");
  cluster.api.Create(resources::kPod, "default",
                     {{"metadata", {{"name", "movielens-r1-a1-w0"}}}, {"spec", {{"containers", {{{"name", "x"}}}}}}});
  Apply("trainjob.yaml");
  cluster.Settle();
  EXPECT_GT(cluster.crashes, 0);
  EXPECT_FALSE(cluster.Get(resources::kPod, "movielens-r1-a1-w0")["metadata"].contains("ownerReferences"));
}

/// The end of a life with the n-th API call failing after it was decided and before it was done.
std::string LifeWithFault(int fail_at, bool crash_in_the_run, int* calls) {
  FakeCluster cluster;
  for (const char* file : {"configmap.yaml", "trainjob.yaml"}) {
    for (const auto& manifest : local::LoadManifests(kExamples + file)) local::Apply(cluster.api, manifest);
  }
  int count = 0;
  cluster.api.SetFault([&](const std::string&, const kube::Resource&) {
    if (++count == fail_at) throw kube::ApiError(500, "InternalError", "injected");
  });
  auto finish = [&](const std::string& attempt) {
    cluster.End("movielens-r1-a" + attempt + "-w0", 0, R"({"globalStep":9,"checkpoint":{"step":9}})");
    cluster.End("movielens-r1-a" + attempt + "-w1", 0);
  };
  auto safely = [&](auto action) {
    for (int i = 0; i < 3; ++i) {
      try {
        return action();
      } catch (const kube::ApiError&) {
      }
    }
  };
  safely([&] { cluster.Settle(); });
  safely([&] { cluster.Settle(); });
  if (crash_in_the_run) {
    safely([&] { cluster.End("movielens-r1-a1-w1", 1); });
    safely([&] { cluster.Settle(); });
    safely([&] { cluster.Advance(5); });
    safely([&] { cluster.Settle(); });
  }
  safely([&] { finish(crash_in_the_run ? "2" : "1"); });
  safely([&] { cluster.Settle(); });
  safely([&] { cluster.Settle(); });
  cluster.api.SetFault(nullptr);
  *calls = count;
  const Json status = cluster.Get(kTrainJob, "movielens")["status"];
  return status["phase"].get<std::string>() + " run " + status["run"]["number"].dump() + " attempt " +
         status["run"]["attempt"].dump() + " restarts " + status["run"]["countedRestarts"].dump() + " pods " +
         std::to_string(cluster.Pods().size());
}

TEST(ReconcileFaults, AnyFailedCallReplaysToTheSameEnd) {
  for (const bool crash : {false, true}) {
    int calls = 0, ignored = 0;
    const std::string undisturbed = LifeWithFault(-1, crash, &calls);
    EXPECT_NE(undisturbed.find("Complete run 1"), std::string::npos) << undisturbed;
    for (int n = 1; n <= calls; ++n) EXPECT_EQ(LifeWithFault(n, crash, &ignored), undisturbed) << "call " << n;
  }
}

}  // namespace
}  // namespace anneal::tests
