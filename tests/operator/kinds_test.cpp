// Kinds: defaults, faults with paths, spec hash, and the committed CRDs.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "operator/api/spec_hash.h"
#include "operator/local/manifests.h"
#include "tests/operator/fake_cluster.h"
#include "worker/config/pipeline.h"

namespace anneal::tests {
namespace {

Json Minimal() {
  return {{"apiVersion", "anneal.dev/v1alpha1"},
          {"kind", "TrainJob"},
          {"metadata", {{"name", "hello"}}},
          {"spec",
           {{"image", "x"},
            {"config", {{"inline", "y"}}},
            {"workers", {{"gpusPerNode", 0}}},
            {"rendezvous", {{"backend", "gloo"}}}}}};
}

std::string FaultsOf(const Json& job) {
  try {
    api::DefaultAndValidate(resources::kTrainJob, job);
  } catch (const kube::ApiError& error) {
    return error.what();
  }
  return "";
}

TEST(Kinds, DefaultsAreFilled) {
  const Json job = api::DefaultAndValidate(resources::kTrainJob, Minimal());
  EXPECT_EQ(job["spec"]["workers"]["numNodes"], 1);
  EXPECT_EQ(job["spec"]["failurePolicy"]["maxRestarts"], 3);
  EXPECT_EQ(job["spec"]["failurePolicy"]["backoff"]["initialSeconds"], 10);
  EXPECT_EQ(job["spec"]["checkpoint"]["modelDir"], "/mnt/model");
  EXPECT_EQ(api::DefaultAndValidate(resources::kTrainJob, job), job);  // twice is once
}

TEST(Kinds, AllFaultsAtOnceWithPathsAndNearestNames) {
  Json job = Minimal();
  job["metadata"]["name"] = "Hello_World";
  job["spec"].erase("image");
  job["spec"]["workers"] = {{"numNodess", 2}, {"gpusPerNode", 99}, {"numNodes", "two"}};
  job["spec"]["cleanup"] = {{"podPolicy", "Some"}};
  const std::string faults = FaultsOf(job);
  for (const char* want :
       {"metadata.name", "spec.image: is required", "spec.workers.numNodess: unknown field (did you mean 'numNodes'?)",
        "spec.workers.gpusPerNode: must be from 0 to 16", "spec.workers.numNodes: must be of type integer",
        "'Some' is not one of"}) {
    EXPECT_NE(faults.find(want), std::string::npos) << want << "\n" << faults;
  }
}

TEST(Kinds, RulesBetweenFields) {
  Json job = Minimal();
  job["spec"]["rendezvous"]["backend"] = "nccl";
  EXPECT_NE(FaultsOf(job).find("need rendezvous.backend gloo"), std::string::npos);
  job = Minimal();
  job["spec"]["config"]["configMapRef"] = {{"name", "m"}};
  EXPECT_NE(FaultsOf(job).find("spec.config: exactly one of inline and configMapRef"), std::string::npos);
  job = Minimal();
  job["spec"]["workers"]["numNodes"] = 2;
  EXPECT_NE(FaultsOf(job).find("shared checkpoint.volume"), std::string::npos);
  job = Minimal();
  job["spec"]["data"] = {{"volumes", {{{"name", "v"}, {"mountPath", "/v"}}}}};
  EXPECT_NE(FaultsOf(job).find("exactly one of claimName, hostPath and ephemeralCache"), std::string::npos);
}

TEST(Kinds, EachContradictionIsRefusedByItsRule) {
  struct Case {
    const char* patch;
    const char* want;
  };
  for (const Case& c : {
           Case{R"({"workers":{"gpuResourceName":"amd.com/gpu","resources":{"limits":{"amd.com/gpu":"1"}}}})",
                "spec.workers: GPUs are asked for"},
           Case{R"({"workers":{"gpuResourceName":"a/b","resources":{"requests":{"a/b":1}}}})",
                "spec.workers: GPUs are asked for"},
           Case{R"({"workers":{"resources":{"limits":{"cpu":true}}}})",
                "spec.workers.resources.limits[cpu]: must be a quantity"},
           Case{R"({"workers":{"shmSize":"16 GB"}})", "spec.workers.shmSize"},
           Case{R"({"data":{"volumes":[{"name":"a","mountPath":"/a","claimName":"c","hostPath":"/h"}]}})",
                "exactly one of claimName"},
           Case{R"({"data":{"credentials":[{"secretRef":{"name":"s"},"as":"File"}]}})", "mountPath is needed for File"},
           Case{R"({"data":{"credentials":[{"secretRef":{"name":"s"},"mountPath":"/s"}]}})",
                "mountPath is needed for File"},
           Case{R"({"failurePolicy":{"rules":[{"action":"Fail"}]}})",
                "exactly one of onExitCodes, onPodConditions and onReasons"},
           Case{R"({"failurePolicy":{"rules":[{"action":"Fail","onReasons":["x"],"onExitCodes":{"values":[1]}}]}})",
                "exactly one of onExitCodes"},
           Case{R"({"failurePolicy":{"backoff":{"initialSeconds":9,"maxSeconds":1}}})",
                "initialSeconds is at most maxSeconds"},
           Case{R"({"scheduling":{"gang":{"mode":"Kueue"}}})", "gang.mode Kueue needs queueName"},
           Case{R"({"scheduling":{"queueName":"q","gang":{"mode":"Volcano"}}})", "queueName is Kueue's"},
           Case{R"({"scheduling":{"gang":{"queue":"q"}}})", "gang.queue belongs to gang.mode Volcano"},
           Case{R"({"checkpoint":{"volume":{"claimName":"a","claimTemplate":{"size":"1Gi"}}}})",
                "exactly one of claimName and claimTemplate"},
           Case{R"({"checkpoint":{"retention":"Delete","volume":{"claimName":"a"}}})",
                "an existing claim is never deleted"},
           Case{R"({"warmStart":{"previousRun":true}})", "warmStart.previousRun needs a checkpoint.volume"},
           Case{R"({"warmStart":{"previousRun":true,"path":"/x"},"checkpoint":{"volume":{"claimName":"a"}}})",
                "at most one of previousRun, path and trainJobRef"},
           Case{R"({"imagePullPolicy":"Sometimes"})", "'Sometimes' is not one of"},
       }) {
    Json job = Minimal();
    job["spec"].merge_patch(Json::parse(c.patch));
    EXPECT_NE(FaultsOf(job).find(c.want), std::string::npos) << c.patch << "\n" << FaultsOf(job);
  }
}

TEST(Kinds, GatesAreAbsoluteOrRelative) {
  const Json eval = {{"apiVersion", "anneal.dev/v1alpha1"},
                     {"kind", "EvalJob"},
                     {"metadata", {{"name", "e"}}},
                     {"spec",
                      {{"source", {{"trainJobRef", {{"name", "t"}}}}},
                       {"workers", {{"gpusPerNode", 0}}},
                       {"rendezvous", {{"backend", "gloo"}}}}}};
  auto faults = [&](const char* gate) {
    Json job = eval;
    job["spec"]["gates"] = Json::array({Json::parse(gate)});
    try {
      api::DefaultAndValidate(resources::kEvalJob, job);
    } catch (const kube::ApiError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(faults(R"({"metric":"auc","threshold":"0.7"})"), "");
  EXPECT_EQ(faults(R"({"metric":"auc","relativeTo":{"evalJobRef":{"name":"o"},"maxDrop":"0.001"}})"), "");
  EXPECT_NE(faults(R"({"metric":"auc"})").find("exactly one of threshold and relativeTo"), std::string::npos);
  EXPECT_NE(faults(R"({"metric":"auc","relativeTo":{}})").find("exactly one of evalJobRef and baselineConfigMap"),
            std::string::npos);
  EXPECT_NE(faults(R"({"metric":"auc","relativeTo":{"evalJobRef":{"name":"o"},"maxDrop":"-1"}})").find("maxDrop"),
            std::string::npos);
}

TEST(Kinds, ExportDestinations) {
  const auto faults = [](const char* artifact) -> std::string {
    const Json job = {{"apiVersion", "anneal.dev/v1alpha1"},
                      {"kind", "ExportJob"},
                      {"metadata", {{"name", "e"}}},
                      {"spec",
                       {{"source", {{"trainJobRef", {{"name", "t"}}}}},
                        {"artifact", Json::parse(artifact)},
                        {"workers", {{"gpusPerNode", 0}}},
                        {"rendezvous", {{"backend", "gloo"}}}}}};
    try {
      api::DefaultAndValidate(resources::kExportJob, job);
    } catch (const kube::ApiError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(faults(R"({"uri":"s3://bucket/prefix","s3":{"endpoint":"http://minio:9000","secretRef":{"name":"s"}}})"),
            "");
  EXPECT_EQ(faults(R"({"uri":"s3://bucket"})"), "");
  EXPECT_EQ(faults(R"({"uri":"file:///mnt/x"})"), "");
  EXPECT_NE(faults(R"({"uri":"s3://key:secret@bucket/x"})").find("spec.artifact.uri"), std::string::npos);
  EXPECT_NE(faults(R"({"uri":"gs://bucket/x"})").find("spec.artifact.uri"), std::string::npos);
  EXPECT_NE(
      faults(R"({"uri":"s3://b/x","s3":{"endpoint":"https://key:secret@minio"}})").find("spec.artifact.s3.endpoint"),
      std::string::npos);
  EXPECT_NE(faults(R"({"claimName":"c","s3":{"region":"x"}})").find("s3 is for an s3:// uri"), std::string::npos);
}

TEST(Kinds, SpecHashKnowsRunFieldsFromLiveOnes) {
  const Json spec = api::DefaultAndValidate(resources::kTrainJob, Minimal())["spec"];
  const std::string hash = api::SpecHash(resources::kTrainJob, spec, {});
  // Pinned: a changed hash would retrain every finished job of a cluster at an upgrade.
  EXPECT_EQ(
      hash,
      "v1:" +
          api::Sha256(
              R"({"inputs":null,"spec":{"config":{"inline":"y"},"image":"x","rendezvous":{"backend":"gloo"},"workers":{"gpusPerNode":0}}})"));
  // A stored spec that lacks a field with a default, as before an upgrade, is the same spec.
  EXPECT_EQ(api::SpecHash(resources::kTrainJob, Minimal()["spec"], {}), hash);
  Json live = spec;
  live["suspend"] = true;
  live["failurePolicy"]["maxRestarts"] = 9;
  EXPECT_EQ(api::SpecHash(resources::kTrainJob, live, {}), hash);
  Json run = spec;
  run["image"] = "z";
  EXPECT_NE(api::SpecHash(resources::kTrainJob, run, {}), hash);
  EXPECT_EQ(api::Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Crds, CommittedFilesAreCurrentAndSmall) {
  for (const auto& kind : api::Kinds()) {
    const std::string path = std::string(ANNEAL_SOURCE_DIR) + "/crds/" + kind.resource.plural + ".yaml";
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    EXPECT_EQ(text.str(), api::CrdYaml(kind)) << path << " is old: run build/bin/anneal-operator crds";
    EXPECT_LT(text.str().size(), 60000u);
  }
}

TEST(Crds, ApiReferenceIsCurrent) {
  for (const auto& kind : api::Kinds()) {
    const std::string path = std::string(ANNEAL_SOURCE_DIR) + "/docs/api/" + kind.singular + ".md";
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    EXPECT_EQ(text.str(), api::ApiReference(kind)) << path << " is old: run build/bin/anneal-operator api-docs";
  }
}

/// Reasons are words of two parts in the controllers' sources; docs/operations.md says of each what to do.
TEST(Docs, EveryReasonIsExplained) {
  const std::set<std::string> others = {// condition types, and words of Kubernetes
                                        "AlreadyExists",
                                        "CheckpointAvailable",
                                        "ClusterFirstWithHostNet",
                                        "ContainersReady",
                                        "CreateContainer",
                                        "EachRun",
                                        "FallbackToLogsOnError",
                                        "NotIn",
                                        "OnRootMismatch",
                                        "PodScheduled",
                                        "ReadinessGatesNotReady",
                                        "RestartDoNotCount",
                                        "RunContainerError",
                                        "RuntimeDefault",
                                        "SchedulingGated",
                                        "SpecChange",
                                        "WorkersReady"};
  const std::string root = ANNEAL_SOURCE_DIR;
  const std::string docs = config::ReadTextFile(root + "/docs/operations.md");
  const std::regex word("\"([A-Z][a-z]+(?:[A-Z][A-Za-z]*)+)\"");
  int found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root + "/operator/controllers")) {
    if (entry.path().extension() != ".cpp") continue;
    const std::string source = config::ReadTextFile(entry.path());
    for (std::sregex_iterator at(source.begin(), source.end(), word), end; at != end; ++at) {
      const std::string reason = (*at)[1];
      if (others.count(reason)) continue;
      ++found;
      EXPECT_TRUE(std::regex_search(docs, std::regex("\\b" + reason + "\\b"))) << reason << " of " << entry.path();
    }
  }
  EXPECT_GT(found, 50);
}

/// Kubeflow's and KubeRay's short names, and those of Kubernetes that begin alike.
TEST(Crds, ShortNamesAreOurs) {
  std::set<std::string> seen = {"tj",         "trj", "tjob", "rj",     "jobset", "js", "po",
                                "pytorchjob", "ej",  "xj",   "mpijob", "vcjob",  "vj"};
  for (const auto& kind : api::Kinds()) EXPECT_TRUE(seen.insert(kind.short_name).second) << kind.short_name;
}

/// `kubectl explain` shows a description for every field.
void Described(const Json& schema, const std::string& path) {
  if (schema.contains("items")) Described(schema["items"], path + "[]");
  const Json properties = schema.value("properties", Json::object());
  for (const auto& [name, field] : properties.items()) {
    EXPECT_GT(field.value("description", "").size(), 3u) << path << "." << name;
    Described(field, path + "." + name);
  }
}

TEST(Crds, EveryFieldIsDescribed) {
  for (const auto& kind : api::Kinds()) {
    Described(kind.spec, kind.resource.kind + ".spec");
    Described(api::StatusSchema(kind), kind.resource.kind + ".status");
  }
}

TEST(Examples, ManifestsAreValidAndTheConfigMapHoldsTheConfig) {
  const std::string folder = std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens";
  bool found = false;
  for (const auto& manifest : local::LoadManifests(folder)) {
    EXPECT_NO_THROW(api::DefaultAndValidate(manifest.resource, manifest.object)) << manifest.where;
    if (manifest.resource.kind != "ConfigMap") continue;
    found = true;
    EXPECT_EQ(manifest.object["data"]["pipeline.config"], config::ReadTextFile(folder + "/pipeline.config"));
  }
  EXPECT_TRUE(found);
}

TEST(Manifests, FaultsNameFileAndLine) {
  std::ofstream("bad.yaml") << "apiVersion: v1\nkind: [\n";
  std::ofstream("kind.yaml") << "apiVersion: v1\nkind: Deployment\nmetadata: {name: x}\n";
  for (const char* file : {"bad.yaml", "kind.yaml", "missing.yaml"}) {
    try {
      local::LoadManifests(file);
      FAIL() << file;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace anneal::tests
