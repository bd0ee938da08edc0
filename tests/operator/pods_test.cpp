// The worker pods a TrainJob asks for: every field of the spec that shapes them.
#include "operator/controllers/gang.h"
#include "operator/controllers/pod_overlay.h"
#include "tests/operator/fake_cluster.h"
#include "worker/config/pipeline.h"

namespace anneal::tests {
namespace {

using resources::kTrainJob;

class Pods : public testing::Test {
 protected:
  /// Pod w1 of a two-node job with that spec laid over a GPU job's.
  Json Make(const char* spec, const char* pod = "job-r1-a1-w1") {
    const std::string config =
        config::ReadTextFile(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config");
    Json job = {{"metadata", {{"name", "job"}}},
                {"spec",
                 {{"image", "worker:1"},
                  {"config", {{"inline", config}}},
                  {"workers", {{"numNodes", 2}, {"gpusPerNode", 4}}},
                  {"checkpoint", {{"volume", {{"claimName", "models"}}}}}}}};
    job["spec"].merge_patch(Json::parse(spec));
    cluster.api.Create(kTrainJob, "default", job);
    cluster.Settle();
    return cluster.Get(resources::kPod, pod);
  }
  static Json Worker(const Json& pod) { return pod["spec"]["containers"][0]; }
  static std::string Env(const Json& pod, const std::string& name) {
    const Json env = Worker(pod)["env"];
    std::string value = "(none)";
    int count = 0;
    for (const Json& variable : env) {
      if (variable["name"] == name) value = variable["value"], ++count;
    }
    EXPECT_LE(count, 1) << name;
    return value;
  }
  static Json Volume(const Json& pod, const std::string& name) {
    const Json volumes = pod["spec"]["volumes"];
    for (const Json& volume : volumes) {
      if (volume["name"] == name) return volume;
    }
    return nullptr;
  }
  static Json Mount(const Json& pod, const std::string& path) {
    const Json mounts = Worker(pod)["volumeMounts"];
    for (const Json& mount : mounts) {
      if (mount["mountPath"] == path) return mount;
    }
    return nullptr;
  }

  FakeCluster cluster;
};

TEST_F(Pods, NodesGpusAndRendezvous) {
  const Json pod = Make(R"({"workers":{"resources":{"requests":{"cpu":"8"},"limits":{"memory":"64Gi"}}},
    "rendezvous":{"interface":"eth0","timeoutSeconds":77,"port":30000,"env":[{"name":"NCCL_DEBUG","value":"WARN"},{"name":"NCCL_SOCKET_IFNAME","value":"ib0"}]}})");
  EXPECT_EQ(
      Worker(pod)["resources"],
      Json::parse(R"({"requests":{"cpu":"8","nvidia.com/gpu":"4"},"limits":{"memory":"64Gi","nvidia.com/gpu":"4"}})"));
  EXPECT_EQ(Env(pod, "MASTER_ADDR"), "job-r1-a1-w0.job-hl.default.svc");
  EXPECT_EQ(Env(pod, "MASTER_PORT"), "30000");
  EXPECT_EQ(Env(pod, "NNODES"), "2");
  EXPECT_EQ(Env(pod, "NODE_RANK"), "1");
  EXPECT_EQ(Env(pod, "PROCESS_GROUP_TIMEOUT_SECONDS"), "77");
  EXPECT_EQ(Env(pod, "GLOO_SOCKET_IFNAME"), "eth0");
  EXPECT_EQ(Env(pod, "NCCL_SOCKET_IFNAME"), "ib0");  // a user's own wins
  EXPECT_EQ(Env(pod, "NCCL_DEBUG"), "WARN");
  const Json args = Worker(pod)["args"];
  const auto at = std::find(args.begin(), args.end(), "--nproc-per-node");
  ASSERT_NE(at, args.end());
  EXPECT_EQ(*(at + 1), "4");
  const Json service = cluster.Get(resources::kService, "job-hl");
  EXPECT_EQ(service["spec"]["clusterIP"], "None");
  EXPECT_EQ(service["spec"]["publishNotReadyAddresses"], true);
}

// A Service costs every other pod of the namespace: each change of a pod is matched against all of them.
TEST_F(Pods, OneAloneHasNoService) {
  const Json pod = Make(R"({"workers":{"numNodes":1}})", "job-r1-a1-w0");
  EXPECT_EQ(Env(pod, "MASTER_ADDR"), "127.0.0.1");
  EXPECT_FALSE(pod["spec"].contains("subdomain"));
  const Json args = Worker(pod)["args"];
  const auto at = std::find(args.begin(), args.end(), "--master-addr");
  ASSERT_NE(at, args.end());
  EXPECT_EQ(*(at + 1), "127.0.0.1");
  EXPECT_TRUE(cluster.api.List(resources::kService, "default", {}).items.empty());
}

// A run has as many pods as it began with: a spec that waits for its end changes nothing of it, the next run follows
// it.
TEST_F(Pods, AChangedNumberOfNodesWaitsForTheEndOfTheRun) {
  for (const auto& [before, after] : {std::pair{1, 2}, {2, 1}}) {
    const std::string name = "job" + std::to_string(before);
    const std::string config =
        config::ReadTextFile(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config");
    cluster.api.Create(kTrainJob, "default",
                       {{"metadata", {{"name", name}}},
                        {"spec",
                         {{"image", "worker:1"},
                          {"config", {{"inline", config}}},
                          {"workers", {{"numNodes", before}}},
                          {"checkpoint", {{"volume", {{"claimName", "models"}}}}}}}});
    cluster.Settle();
    const auto pods = [&](int run, int count) {
      std::vector<std::string> names;
      for (int i = 0; i < count; ++i) names.push_back(name + "-r" + std::to_string(run) + "-a1-w" + std::to_string(i));
      return names;
    };
    EXPECT_EQ(cluster.Phase(kTrainJob, name), "Running");
    cluster.api.MergePatch(kTrainJob, "default", name, {{"spec", {{"workers", {{"numNodes", after}}}}}});
    cluster.Settle();
    const Json status = cluster.Get(kTrainJob, name)["status"];
    EXPECT_EQ(status["phase"], "Running");
    EXPECT_TRUE(api::IsTrue(status, "SpecChangePending"));
    EXPECT_EQ(status["run"]["restarts"], 0);
    EXPECT_EQ(status["workers"]["desired"], before);
    EXPECT_EQ(cluster.Pods(), pods(1, before));
    for (const std::string& pod : pods(1, before)) {
      EXPECT_EQ(cluster.Phase(kTrainJob, name), "Running");
      cluster.End(pod, 0, R"({"globalStep":9,"metrics":{"auc":0.7}})");
      cluster.Settle();
    }
    EXPECT_EQ(cluster.Get(kTrainJob, name)["status"]["run"]["number"], 2);
    EXPECT_EQ(cluster.Get(kTrainJob, name)["status"]["workers"]["desired"], after);
    const Json pod = cluster.Get(resources::kPod, name + "-r2-a1-w0");
    EXPECT_EQ(Env(pod, "NNODES"), std::to_string(after));
    EXPECT_EQ(Env(pod, "MASTER_ADDR") == "127.0.0.1", after == 1);
    cluster.api.Delete(kTrainJob, "default", name, {}, {});
    cluster.Settle();
  }
}

TEST_F(Pods, Rdma) {
  const Json pod = Make(
      R"({"rendezvous":{"rdma":{"resourceName":"rdma/hca","count":2,"hcas":["mlx5_0","mlx5_1"]}},"workers":{"hostNetwork":true}})");
  EXPECT_EQ(Worker(pod)["resources"]["limits"]["rdma/hca"], "2");
  EXPECT_EQ(Worker(pod)["resources"]["requests"]["rdma/hca"], "2");
  EXPECT_EQ(Worker(pod)["securityContext"]["capabilities"], Json::parse(R"({"add":["IPC_LOCK"],"drop":["ALL"]})"));
  EXPECT_EQ(Env(pod, "NCCL_IB_HCA"), "mlx5_0,mlx5_1");
  EXPECT_EQ(pod["spec"]["hostNetwork"], true);
  EXPECT_EQ(pod["spec"]["dnsPolicy"], "ClusterFirstWithHostNet");
}

TEST_F(Pods, SecurityByDefault) {
  const Json pod = Make("{}");
  EXPECT_EQ(pod["spec"]["securityContext"]["runAsNonRoot"], true);
  EXPECT_EQ(pod["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
  EXPECT_EQ(pod["spec"]["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch");
  EXPECT_EQ(pod["spec"]["automountServiceAccountToken"], false);
  EXPECT_EQ(pod["spec"]["enableServiceLinks"], false);
  EXPECT_FALSE(pod["spec"].contains("hostNetwork"));
  EXPECT_EQ(Worker(pod)["securityContext"],
            Json::parse(
                R"({"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"]}})"));
  EXPECT_EQ(Volume(pod, "tmp")["emptyDir"], Json::object());
  EXPECT_EQ(Mount(pod, "/tmp")["name"], "tmp");
}

TEST_F(Pods, Placement) {
  const Json pod = Make(R"({"imagePullPolicy":"Always","imagePullSecrets":[{"name":"reg"}],"serviceAccountName":"sa",
    "workers":{"nodeSelector":{"gpu":"h100"},"tolerations":[{"key":"gpu","operator":"Exists"}],"affinity":{"nodeAffinity":{}},"shmSize":"2Gi",
               "topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone"}],"terminationGracePeriodSeconds":17},
    "scheduling":{"schedulerName":"mine","priorityClassName":"high"}})");
  const Json& spec = pod["spec"];
  EXPECT_EQ(spec["nodeSelector"], Json({{"gpu", "h100"}}));
  EXPECT_EQ(spec["tolerations"][0]["key"], "gpu");
  EXPECT_EQ(spec["affinity"], Json::parse(R"({"nodeAffinity":{}})"));
  EXPECT_EQ(spec["topologySpreadConstraints"][0]["topologyKey"], "zone");
  EXPECT_EQ(spec["terminationGracePeriodSeconds"], 17);
  EXPECT_EQ(spec["schedulerName"], "mine");
  EXPECT_EQ(spec["priorityClassName"], "high");
  EXPECT_EQ(spec["imagePullSecrets"][0]["name"], "reg");
  EXPECT_EQ(spec["serviceAccountName"], "sa");
  EXPECT_EQ(Worker(pod)["imagePullPolicy"], "Always");
  EXPECT_EQ(Volume(pod, "shm")["emptyDir"], Json::parse(R"({"medium":"Memory","sizeLimit":"2Gi"})"));
  EXPECT_EQ(Mount(pod, "/dev/shm")["name"], "shm");
}

TEST_F(Pods, DataVolumesAndSecrets) {
  const Json pod = Make(
      R"({"data":{"volumes":[{"name":"a","mountPath":"/a","claimName":"rows","subPath":"x"},{"name":"b","mountPath":"/b","hostPath":"/h","readOnly":false},
      {"name":"c","mountPath":"/c","ephemeralCache":{"size":"9Gi"}}],
    "credentials":[{"secretRef":{"name":"s3"}},{"secretRef":{"name":"gcs"},"as":"File","mountPath":"/secrets/gcs"}]}})");
  EXPECT_EQ(Mount(pod, "/a"), Json::parse(R"({"name":"data-a","mountPath":"/a","readOnly":true,"subPath":"x"})"));
  EXPECT_EQ(Volume(pod, "data-a")["persistentVolumeClaim"]["claimName"], "rows");
  EXPECT_EQ(Mount(pod, "/b")["readOnly"], false);
  EXPECT_EQ(Volume(pod, "data-c")["emptyDir"]["sizeLimit"], "9Gi");
  EXPECT_EQ(Mount(pod, "/c")["readOnly"], false);
  EXPECT_EQ(Worker(pod)["envFrom"], Json::parse(R"([{"secretRef":{"name":"s3"}}])"));
  EXPECT_EQ(Volume(pod, "secret-0")["secret"]["secretName"], "gcs");
  EXPECT_EQ(Mount(pod, "/secrets/gcs")["readOnly"], true);
}

/// An export says what its worker is to make and where to; the store's Secret is named, never read.
TEST_F(Pods, ExportSettingsAndStore) {
  Make("{}", "job-r1-a1-w0");
  cluster.End("job-r1-a1-w0", 0, R"({"globalStep":9,"checkpoint":{"step":9,"path":"/mnt/model/r1/model.ckpt-9"}})");
  cluster.End("job-r1-a1-w1", 0);
  cluster.Settle();
  const Json job = {{"metadata", {{"name", "out"}}}, {"spec", Json::parse(R"({
    "source":{"trainJobRef":{"name":"job"}}, "quantization":"FP16", "sequenceQuantization":"INT8", "inputTile":3,
    "artifact":{"uri":"s3://models/ctr","s3":{"endpoint":"https://minio.store:9000","region":"eu-1","secretRef":{"name":"store-key"}}}})")}};
  cluster.api.Create(resources::kExportJob, "default", job);
  cluster.Settle();
  const Json worker = Worker(cluster.Get(resources::kPod, "out-r1-a1-w0"));
  const std::vector<std::string> args = worker["args"];
  const auto value = [&args](const std::string& flag) {
    const auto at = std::find(args.begin(), args.end(), flag);
    return at == args.end() || at + 1 == args.end() ? "(none)" : *(at + 1);
  };
  EXPECT_EQ(value("--format"), "TorchScript");
  EXPECT_EQ(value("--quantization"), "FP16");
  EXPECT_EQ(value("--sequence_quantization"), "INT8");
  EXPECT_EQ(value("--input_tile"), "3");
  EXPECT_EQ(value("--publish_uri"), "s3://models/ctr");
  EXPECT_EQ(value("--s3_endpoint"), "https://minio.store:9000");
  EXPECT_EQ(value("--s3_region"), "eu-1");
  EXPECT_EQ(worker["envFrom"], Json::parse(R"([{"secretRef":{"name":"store-key"}}])"));
}

TEST_F(Pods, ARunUploadsItsLastCheckpoint) {
  const Json pod = Make(
      R"({"artifacts":{"upload":{"uri":"s3://models/ctr","s3":{"endpoint":"https://minio.store:9000","region":"eu-1",
    "secretRef":{"name":"store-key"}}}}})");
  const std::vector<std::string> args = Worker(pod)["args"];
  const std::vector<std::string> wanted = {
      "--upload_uri", "s3://models/ctr", "--s3_endpoint", "https://minio.store:9000", "--s3_region", "eu-1"};
  EXPECT_NE(std::search(args.begin(), args.end(), wanted.begin(), wanted.end()), args.end());
  EXPECT_EQ(Worker(pod)["envFrom"], Json::parse(R"([{"secretRef":{"name":"store-key"}}])"));
  cluster.End("job-r1-a1-w0", 0,
              R"({"globalStep":9,"artifact":{"uri":"s3://models/ctr/versions/9-x","sha256":"ab","sizeBytes":5}})");
  cluster.End("job-r1-a1-w1", 0);
  cluster.Settle();
  const Json status = cluster.Get(kTrainJob, "job")["status"];
  EXPECT_EQ(status["phase"], "Complete");
  EXPECT_EQ(status["artifact"], Json::parse(R"({"uri":"s3://models/ctr/versions/9-x","sha256":"ab","sizeBytes":5})"));
  EXPECT_TRUE(api::IsTrue(status, "Published"));
}

TEST_F(Pods, ARunThatUploadsToAClaimAndSaysNothingOfItHasFailed) {
  const Json pod = Make(R"({"artifacts":{"upload":{"claimName":"shelf"}}})");
  const std::vector<std::string> args = Worker(pod)["args"], wanted = {"--upload_uri", "file:///mnt/artifacts/job"};
  EXPECT_NE(std::search(args.begin(), args.end(), wanted.begin(), wanted.end()), args.end());
  EXPECT_EQ(Volume(pod, "artifacts")["persistentVolumeClaim"]["claimName"], "shelf");
  cluster.End("job-r1-a1-w0", 0, R"({"globalStep":9})");
  cluster.End("job-r1-a1-w1", 0);
  cluster.Settle();
  EXPECT_EQ(cluster.Get(kTrainJob, "job")["status"]["failure"]["reason"], "ResultMissing");
}

TEST_F(Pods, TemplateIsMergedByNames) {
  const Json pod = Make(
      R"({"workers":{"podTemplate":{"metadata":{"labels":{"team":"ads","anneal.dev/run":"77"},"annotations":{"n":"v"},"name":"other"},
    "spec":{"restartPolicy":"Always","hostname":"x","runtimeClassName":"nvidia","volumes":[{"name":"shm","emptyDir":{"sizeLimit":"1Gi"}},{"name":"mine","emptyDir":{}}],
      "containers":[{"name":"side","image":"side:1"},{"name":"worker","env":[{"name":"A","value":"1"}],"volumeMounts":[{"mountPath":"/mine","name":"mine"}],
        "securityContext":{"capabilities":{"add":["SYS_PTRACE"]}}}]}}}})");
  EXPECT_EQ(pod["metadata"]["name"], "job-r1-a1-w1");
  EXPECT_EQ(pod["metadata"]["labels"]["team"], "ads");
  EXPECT_EQ(pod["metadata"]["labels"]["anneal.dev/run"], "1");
  EXPECT_EQ(pod["metadata"]["annotations"]["n"], "v");
  EXPECT_EQ(pod["spec"]["restartPolicy"], "Never");
  EXPECT_EQ(pod["spec"]["hostname"], "job-r1-a1-w1");
  EXPECT_EQ(pod["spec"]["runtimeClassName"], "nvidia");
  ASSERT_EQ(pod["spec"]["containers"].size(), 2u);
  EXPECT_EQ(Worker(pod)["name"], "worker");
  EXPECT_EQ(Env(pod, "A"), "1");
  EXPECT_EQ(Env(pod, "NODE_RANK"), "1");  // ours are still there
  EXPECT_EQ(Mount(pod, "/mine")["name"], "mine");
  EXPECT_EQ(Mount(pod, "/tmp")["name"], "tmp");
  EXPECT_EQ(Volume(pod, "shm")["emptyDir"], Json::parse(R"({"medium":"Memory","sizeLimit":"1Gi"})"));
  EXPECT_EQ(Worker(pod)["securityContext"]["capabilities"], Json::parse(R"({"add":["SYS_PTRACE"],"drop":["ALL"]})"));
}

TEST(PodOverlay, NullAndPatchDeleteRemove) {
  const Json base = Json::parse(
      R"({"a":1,"b":{"c":2},"env":[{"name":"x","value":"1"},{"name":"y","value":"2"}],"tolerations":[1,2]})");
  EXPECT_EQ(
      controllers::StrategicMerge(
          base, Json::parse(
                    R"({"a":null,"env":[{"name":"x","$patch":"delete"},{"name":"y","value":"3"}],"tolerations":[3]})")),
      Json::parse(R"({"b":{"c":2},"env":[{"name":"y","value":"3"}],"tolerations":[3]})"));
}

TEST_F(Pods, KueueGroups) {
  const Json pod = Make(R"({"scheduling":{"queueName":"ads","gang":{"mode":"Kueue"}}})");
  EXPECT_EQ(pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "ads");
  EXPECT_EQ(pod["metadata"]["labels"]["kueue.x-k8s.io/pod-group-name"], "job-r1-a1");
  EXPECT_EQ(pod["metadata"]["annotations"]["kueue.x-k8s.io/pod-group-total-count"], "2");
  EXPECT_EQ(pod["metadata"]["annotations"]["kueue.x-k8s.io/retriable-in-group"], "false");
}

TEST_F(Pods, VolcanoGroup) {
  const Json pod =
      Make(R"({"workers":{"resources":{"requests":{"cpu":"500m","memory":"1.5Gi"},"limits":{"memory":"2Gi"}}},
    "scheduling":{"priorityClassName":"high","gang":{"mode":"Volcano","queue":"gpus"}}})");
  EXPECT_EQ(pod["spec"]["schedulerName"], "volcano");
  EXPECT_EQ(pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"], "job-r1");
  const Json group = cluster.Get(controllers::kPodGroup, "job-r1");
  EXPECT_EQ(group["spec"], Json::parse(R"({"minMember":2,"queue":"gpus","priorityClassName":"high",
    "minResources":{"cpu":"1000m","memory":"3.0Gi","nvidia.com/gpu":"8"}})"));
  cluster.api.Delete(kTrainJob, "default", "job", {}, {});
  EXPECT_TRUE(cluster.api.List(controllers::kPodGroup, "", {}).items.empty());
}

TEST_F(Pods, ClaimTemplateAndRetention) {
  Make(
      R"({"checkpoint":{"retention":"Delete","volume":{"claimName":null,"claimTemplate":{"size":"2Ti","storageClassName":"cephfs"},"subPath":"m"}}})");
  const Json claim = cluster.Get(resources::kPersistentVolumeClaim, "job-model");
  EXPECT_EQ(
      claim["spec"],
      Json::parse(
          R"({"accessModes":["ReadWriteMany"],"resources":{"requests":{"storage":"2Ti"}},"storageClassName":"cephfs"})"));
  const Json pod = cluster.Get(resources::kPod, "job-r1-a1-w0");
  EXPECT_EQ(Volume(pod, "model")["persistentVolumeClaim"]["claimName"], "job-model");
  EXPECT_EQ(Mount(pod, "/mnt/model")["subPath"], "m");
  cluster.api.Delete(kTrainJob, "default", "job", {}, {});
  EXPECT_TRUE(cluster.api.List(resources::kPersistentVolumeClaim, "", {}).items.empty());
}

}  // namespace
}  // namespace anneal::tests
