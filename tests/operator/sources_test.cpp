// Which model an EvalJob, an ExportJob or a warm start takes.
#include "operator/local/manifests.h"
#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

using resources::kEvalJob;
using resources::kExportJob;
using resources::kPod;
using resources::kTrainJob;

class Sources : public testing::Test {
 protected:
  void Apply(const char* file) {
    for (const auto& manifest :
         local::LoadManifests(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/" + file + ".yaml"))
      local::Apply(cluster.api, manifest);
    cluster.Settle();
  }
  /// Ends run `run` of the TrainJob at a step.
  void Train(int run, int step) {
    const std::string pod = "movielens-r" + std::to_string(run) + "-a1-w", last = std::to_string(step);
    cluster.End(pod + "0", 0, R"({"globalStep":)" + last + R"(,"checkpoint":{"step":)" + last + "}}");
    cluster.End(pod + "1", 0);
    cluster.Settle();
  }
  void Again(const char* when) {
    cluster.api.MergePatch(kTrainJob, "default", "movielens",
                           {{"metadata", {{"annotations", {{"anneal.dev/run-requested-at", when}}}}}});
    cluster.Settle();
  }
  std::string Folder(int run) {
    return "/mnt/model/r" + std::to_string(run) + "-" +
           cluster.Get(kTrainJob, "movielens")["metadata"]["uid"].get<std::string>().substr(0, 8);
  }
  void Create(const kube::Resource& kind, const char* name, const char* spec) {
    Json full = Json::parse(spec);
    full.merge_patch({{"workers", {{"gpusPerNode", 0}}}, {"rendezvous", {{"backend", "gloo"}}}});
    cluster.api.Create(kind, "default", {{"metadata", {{"name", name}}}, {"spec", full}});
    cluster.Settle();
  }
  Json Ready(const kube::Resource& kind, const char* name) {
    return api::FindCondition(cluster.Get(kind, name)["status"], "Ready");
  }
  std::string Argument(const std::string& pod, const std::string& flag) {
    const Json args = cluster.Get(kPod, pod)["spec"]["containers"][0]["args"];
    const auto at = std::find(args.begin(), args.end(), flag);
    return at == args.end() ? "" : (at + 1)->get<std::string>();
  }

  FakeCluster cluster;
};

TEST_F(Sources, LatestAStepAndAnOlderRun) {
  Apply("configmap");
  Apply("trainjob");
  Train(1, 40);
  Again("2027-01-15T02:00:00Z");
  // Run 2 trains; what run 1 left can be evaluated meanwhile.
  Create(kEvalJob, "older", R"({"source":{"trainJobRef":{"name":"movielens","run":"1"}}})");
  EXPECT_EQ(Argument("older-r1-a1-w0", "--checkpoint_path"), Folder(1) + "/model.ckpt-40");
  Create(kEvalJob, "latest", R"({"source":{"trainJobRef":{"name":"movielens"}}})");
  EXPECT_EQ(Ready(kEvalJob, "latest")["reason"], "WaitingForSource");
  Create(kEvalJob, "future", R"({"source":{"trainJobRef":{"name":"movielens","run":"7"}}})");
  EXPECT_EQ(Ready(kEvalJob, "future")["message"], "TrainJob movielens is Running, run 7 has not begun");
  Train(2, 80);
  EXPECT_EQ(Argument("latest-r1-a1-w0", "--checkpoint_path"), Folder(2) + "/model.ckpt-80");
  Create(kEvalJob, "step", R"({"source":{"trainJobRef":{"name":"movielens","checkpoint":"60"}}})");
  EXPECT_EQ(Argument("step-r1-a1-w0", "--checkpoint_path"), Folder(2) + "/model.ckpt-60");
}

// A run's folder, claim, image and edits are those of the spec that it began with.
TEST_F(Sources, AnOlderRunIsFoundWhereItsOwnSpecPutIt) {
  Apply("configmap");
  Apply("trainjob");
  const std::string image = cluster.Get(kTrainJob, "movielens")["spec"]["image"];
  Train(1, 40);
  cluster.api.MergePatch(
      kTrainJob, "default", "movielens",
      {{"spec",
        {{"image", "worker:2"},
         {"config", {{"edits", {{"train_config.num_epochs", "9"}}}}},
         {"checkpoint",
          {{"modelDir", "/elsewhere"}, {"volume", {{"claimTemplate", nullptr}, {"claimName", "others"}}}}}}}});
  cluster.Settle();
  Train(2, 80);
  Create(kEvalJob, "older", R"({"source":{"trainJobRef":{"name":"movielens","run":"1"}}})");
  const Json pod = cluster.Get(kPod, "older-r1-a1-w0")["spec"];
  EXPECT_EQ(Argument("older-r1-a1-w0", "--checkpoint_path"), Folder(1) + "/model.ckpt-40");
  EXPECT_EQ(pod["containers"][0]["image"], image);
  EXPECT_EQ(Argument("older-r1-a1-w0", "--edit_config_json").find("num_epochs"), std::string::npos);
  EXPECT_NE(pod.dump().find(R"("claimName":"movielens-model")"), std::string::npos);
  Create(kEvalJob, "latest", R"({"source":{"trainJobRef":{"name":"movielens"}}})");
  EXPECT_EQ(Argument("latest-r1-a1-w0", "--checkpoint_path").rfind("/elsewhere/r2-", 0), 0u);
}

// What a run was made from is replaced whole by the next run's, to the last field within.
TEST_F(Sources, ARestartOfAnEvaluationHasNothingOfTheRunBefore) {
  Apply("configmap");
  Apply("trainjob");
  Train(1, 10);
  cluster.api.MergePatch(kTrainJob, "default", "movielens",
                         {{"spec", {{"config", {{"edits", {{"train_config.num_epochs", "9"}}}}}}}});
  cluster.Settle();
  Train(2, 40);
  Create(kEvalJob, "gate", R"({"source":{"trainJobRef":{"name":"movielens"}}})");
  EXPECT_NE(Argument("gate-r1-a1-w0", "--edit_config_json").find("num_epochs"), std::string::npos);
  cluster.End("gate-r1-a1-w0", 0, R"({"globalStep":40,"metrics":{"auc":0.7}})");
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"config", {{"edits", nullptr}}}}}});
  cluster.Settle();
  Train(3, 80);
  EXPECT_EQ(Argument("gate-r2-a1-w0", "--edit_config_json").find("num_epochs"), std::string::npos);
  cluster.End("gate-r2-a1-w0", 1);
  cluster.Settle();
  cluster.Advance(3600);
  EXPECT_NE(Argument("gate-r2-a2-w0", "--edit_config_json"), "");
  EXPECT_EQ(Argument("gate-r2-a2-w0", "--edit_config_json").find("num_epochs"), std::string::npos);
}

TEST_F(Sources, TheBestCheckpointOfARun) {
  Apply("configmap");
  Apply("trainjob");
  const auto train = [&](int run, const char* best) {
    const std::string pod = "movielens-r" + std::to_string(run) + "-a1-w";
    cluster.End(pod + "0", 0, std::string(R"({"globalStep":90,"checkpoint":{"step":90})") + best + "}");
    cluster.End(pod + "1", 0);
    cluster.Settle();
  };
  train(1, R"(,"bestCheckpoint":{"step":30,"metric":"auc","value":0.81})");
  EXPECT_EQ(cluster.Get(kTrainJob, "movielens")["status"]["progress"]["bestCheckpoint"],
            Json::parse(R"({"step":30,"metric":"auc","value":"0.810000"})"));
  Create(kEvalJob, "best", R"({"source":{"trainJobRef":{"name":"movielens","checkpoint":"Best"}}})");
  EXPECT_EQ(Argument("best-r1-a1-w0", "--checkpoint_path"), Folder(1) + "/model.ckpt-30");
  Again("2027-01-15T02:00:00Z");
  train(2, "");  // a config that does not ask for the best one
  Create(kEvalJob, "none", R"({"source":{"trainJobRef":{"name":"movielens","checkpoint":"Best"}}})");
  EXPECT_EQ(Ready(kEvalJob, "none")["reason"], "ReferenceNotFound");
  EXPECT_NE(Ready(kEvalJob, "none")["message"].get<std::string>().find("exporter_type: 'best'"), std::string::npos);
  Create(kExportJob, "first", R"({"source":{"trainJobRef":{"name":"movielens","run":"1","checkpoint":"Best"}},
                                  "artifact":{"uri":"file:///tmp/x"}})");
  EXPECT_EQ(Argument("first-r1-a1-w0", "--checkpoint_path"), Folder(1) + "/model.ckpt-30");
}

TEST_F(Sources, ARunThatHistoryForgotAndACheckpointThatNobodyReported) {
  Apply("configmap");
  Apply("trainjob");
  cluster.api.MergePatch(kTrainJob, "default", "movielens", {{"spec", {{"historyLimit", 0}}}});
  cluster.Settle();
  cluster.End("movielens-r1-a1-w0", 0);
  cluster.End("movielens-r1-a1-w1", 0);
  cluster.Settle();
  Create(kEvalJob, "none", R"({"source":{"trainJobRef":{"name":"movielens"}}})");
  EXPECT_EQ(Ready(kEvalJob, "none")["reason"], "ReferenceNotFound");
  EXPECT_EQ(Ready(kEvalJob, "none")["message"], "run 1 of TrainJob movielens reported no checkpoint");
  Again("2027-01-15T02:00:00Z");
  Create(kEvalJob, "older", R"({"source":{"trainJobRef":{"name":"movielens","run":"1"}}})");
  EXPECT_EQ(Ready(kEvalJob, "older")["message"], "TrainJob movielens keeps no run 1 in its history");
}

TEST_F(Sources, ACheckpointOfAClaimNeedsImageAndConfig) {
  Apply("configmap");
  EXPECT_THROW(Create(kEvalJob, "bare", R"({"source":{"checkpoint":{"claimName":"models","path":"x/model.ckpt-7"}}})"),
               kube::ApiError);
  Create(kEvalJob, "alone",
         R"({"image":"i","config":{"configMapRef":{"name":"movielens-config"}},"data":{"evalInputPath":"/d"},
             "source":{"checkpoint":{"claimName":"models","subPath":"ctr","path":"x/model.ckpt-7"}}})");
  EXPECT_EQ(Argument("alone-r1-a1-w0", "--checkpoint_path"), "/mnt/model/x/model.ckpt-7");
  const Json spec = cluster.Get(kPod, "alone-r1-a1-w0")["spec"];
  EXPECT_NE(spec["volumes"].dump().find(R"("claimName":"models")"), std::string::npos);
  EXPECT_NE(spec["containers"][0]["volumeMounts"].dump().find(R"("subPath":"ctr")"), std::string::npos);
  // What passed its gate is exported, with the config it was evaluated with.
  cluster.End("alone-r1-a1-w0", 0, R"({"metrics":{"auc":0.8}})");
  cluster.Settle();
  Create(kExportJob, "out", R"({"source":{"evalJobRef":{"name":"alone"}},"artifact":{"claimName":"out"}})");
  EXPECT_EQ(Argument("out-r1-a1-w0", "--checkpoint_path"), "/mnt/model/x/model.ckpt-7");
  EXPECT_EQ(cluster.Get(resources::kConfigMap, "out-r1-config")["data"]["pipeline.config"],
            cluster.Get(resources::kConfigMap, "alone-r1-config")["data"]["pipeline.config"]);
}

TEST_F(Sources, AWarmStartFromAnotherJobWaitsForItAndMountsItsClaim) {
  Apply("configmap");
  Json other = local::LoadManifests(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/trainjob.yaml")[0].object;
  other["metadata"] = {{"name", "next"}};
  other["spec"]["warmStart"] = {{"trainJobRef", {{"name", "movielens"}}}, {"ignoreOptimizer", true}};
  cluster.api.Create(kTrainJob, "default", {{"metadata", other["metadata"]}, {"spec", other["spec"]}});
  cluster.Settle();
  EXPECT_EQ(Ready(kTrainJob, "next")["reason"], "WaitingForSource");
  Apply("trainjob");
  Train(1, 40);
  EXPECT_EQ(Argument("next-r1-a1-w0", "--fine_tune_checkpoint"),
            "/mnt/warm-start/" + Folder(1).substr(std::string("/mnt/model/").size()) + "/model.ckpt-40");
  EXPECT_NE(cluster.Get(kPod, "next-r1-a1-w0")["spec"]["volumes"].dump().find(R"("claimName":"movielens-model")"),
            std::string::npos);
  // A newer run of the source begins nothing here, and a restart takes the same weights.
  Again("2027-01-15T02:00:00Z");
  Train(2, 80);
  EXPECT_EQ(cluster.Get(kTrainJob, "next")["status"]["run"]["number"], 1);
  cluster.End("next-r1-a1-w0", 1);
  cluster.Settle();
  cluster.Advance(5);
  EXPECT_NE(Argument("next-r1-a2-w0", "--fine_tune_checkpoint").find("model.ckpt-40"), std::string::npos);
}

TEST_F(Sources, ARunKeepsTheConfigItBeganWithThoughItsSourceMovesOnBeforeTheSnapshot) {
  for (const char* file : {"configmap", "trainjob"}) Apply(file);
  Train(1, 40);
  bool down = true;  // the run stands in status, then no ConfigMap can be made
  cluster.api.SetFault([&](const std::string& verb, const kube::Resource& kind) {
    if (down && verb == "create" && kind == resources::kConfigMap) throw kube::ApiError(500, "InternalError", "down");
  });
  Apply("evaljob");
  const std::string began = cluster.Get(kEvalJob, "movielens-gate")["status"]["run"]["configHash"];
  EXPECT_EQ(began, cluster.Get(kTrainJob, "movielens")["status"]["run"]["configHash"]);
  cluster.api.MergePatch(
      resources::kConfigMap, "default", "movielens-config",
      {{"data",
        {{"pipeline.config",
          cluster.Get(resources::kConfigMap, "movielens-config")["data"]["pipeline.config"].get<std::string>() +
              "\n"}}}});
  cluster.api.SetFault(nullptr);
  down = false;
  Again("2027-01-15T02:00:00Z");  // run 2 of the source, with another config, has no end yet
  const Json first = cluster.Get(resources::kConfigMap, "movielens-r1-config");
  EXPECT_NE(cluster.Get(resources::kConfigMap, "movielens-r2-config")["data"]["pipeline.config"],
            first["data"]["pipeline.config"]);
  EXPECT_EQ(cluster.Get(resources::kConfigMap, "movielens-gate-r1-config")["data"]["pipeline.config"],
            first["data"]["pipeline.config"]);
  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Running");
}

TEST_F(Sources, ARunWhoseConfigIsLostSaysSoAndIsLeftBehindByTheNext) {
  for (const char* file : {"configmap", "trainjob"}) Apply(file);
  Train(1, 40);
  bool down = true;
  cluster.api.SetFault([&](const std::string& verb, const kube::Resource& kind) {
    if (down && verb == "create" && kind == resources::kConfigMap) throw kube::ApiError(500, "InternalError", "down");
  });
  Apply("evaljob");
  cluster.api.SetFault(nullptr);
  cluster.api.Delete(kTrainJob, "default", "movielens", {}, std::nullopt);  // and with it its snapshot
  Apply("trainjob");
  EXPECT_EQ(Ready(kEvalJob, "movielens-gate")["reason"], "ConfigLost");
  Train(1, 80);
  EXPECT_EQ(cluster.Get(kEvalJob, "movielens-gate")["status"]["run"]["number"], 2);
  EXPECT_EQ(cluster.Phase(kEvalJob, "movielens-gate"), "Running");
}

TEST_F(Sources, ASnapshotOfAnEarlierJobOfTheNameIsNotTaken) {
  Apply("configmap");
  cluster.api.Create(resources::kConfigMap, "default",
                     {{"metadata",
                       {{"name", "movielens-r1-config"},
                        {"ownerReferences", {{{"kind", "TrainJob"}, {"name", "movielens"}, {"uid", "earlier"}}}}}},
                      {"data", {{"pipeline.config", "old"}}}});
  Apply("trainjob");
  EXPECT_EQ(cluster.Pods().size(), 0u);
  EXPECT_EQ(Ready(kTrainJob, "movielens")["reason"], "NameTaken");
  cluster.api.Delete(resources::kConfigMap, "default", "movielens-r1-config", {}, std::nullopt);
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kTrainJob, "movielens"), "Running");
}

TEST_F(Sources, AnEvaluationOfAJobThatWasMadeAnewPassesNothingOn) {
  for (const char* file : {"configmap", "trainjob", "evaljob"}) Apply(file);
  Train(1, 40);
  cluster.End("movielens-gate-r1-a1-w0", 0, R"({"metrics":{"auc":0.8}})");
  cluster.Settle();
  cluster.api.Delete(kTrainJob, "default", "movielens", {}, std::nullopt);
  cluster.Settle();
  Apply("trainjob");
  Train(1, 40);  // the same run and step, another model
  Apply("exportjob");
  for (const std::string& pod : cluster.Pods()) EXPECT_EQ(pod.find("export"), std::string::npos);
  cluster.End("movielens-gate-r2-a1-w0", 0, R"({"metrics":{"auc":0.8}})");
  cluster.Settle();
  EXPECT_EQ(cluster.Phase(kExportJob, "movielens-export"), "Running");
}

}  // namespace
}  // namespace anneal::tests
