// Kinds: defaults, faults with paths, spec hash, and the committed CRDs.
#include <fstream>
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
          {"spec", {{"image", "x"}, {"config", {{"inline", "y"}}}, {"workers", {{"gpusPerNode", 0}}}, {"rendezvous", {{"backend", "gloo"}}}}}};
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
  for (const char* want : {"metadata.name", "spec.image: is required", "spec.workers.numNodess: unknown field (did you mean 'numNodes'?)",
                           "spec.workers.gpusPerNode: must be from 0 to 16", "spec.workers.numNodes: must be of type integer", "'Some' is not one of"}) {
    EXPECT_NE(faults.find(want), std::string::npos) << want << "\n" << faults;
  }
}

TEST(Kinds, RulesBetweenFields) {
  Json job = Minimal();
  job["spec"]["rendezvous"]["backend"] = "nccl";
  EXPECT_NE(FaultsOf(job).find("need rendezvous.backend gloo"), std::string::npos);
  job = Minimal();
  job["spec"]["config"]["configMapRef"] = {{"name", "m"}};
  EXPECT_NE(FaultsOf(job).find("exactly one of config.inline"), std::string::npos);
  job = Minimal();
  job["spec"]["workers"]["numNodes"] = 2;
  EXPECT_NE(FaultsOf(job).find("shared checkpoint.volume"), std::string::npos);
  job = Minimal();
  job["spec"]["data"] = {{"volumes", {{{"name", "v"}, {"mountPath", "/v"}}}}};
  EXPECT_NE(FaultsOf(job).find("one of claimName and hostPath"), std::string::npos);
}

TEST(Kinds, SpecHashKnowsRunFieldsFromLiveOnes) {
  const Json spec = api::DefaultAndValidate(resources::kTrainJob, Minimal())["spec"];
  const std::string hash = api::SpecHash(spec, {});
  // Pinned: a changed hash would retrain every finished job of a cluster at an upgrade.
  EXPECT_EQ(hash.substr(0, 3), "v1:");
  Json live = spec;
  live["suspend"] = true;
  live["failurePolicy"]["maxRestarts"] = 9;
  EXPECT_EQ(api::SpecHash(live, {}), hash);
  Json run = spec;
  run["image"] = "z";
  EXPECT_NE(api::SpecHash(run, {}), hash);
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
