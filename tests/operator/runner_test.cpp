// Pods as local processes.
#include "operator/local/process_runner.h"

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

namespace fs = std::filesystem;

class Runner : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(state);
    runner = std::make_unique<local::ProcessRunner>(api, clock, local::RunnerOptions{state, "."});
    runner->Start();
  }
  void Create(const std::string& name, const std::string& script, Json extra = Json::object()) {
    Json spec = {{"terminationGracePeriodSeconds", 1},
                 {"containers", {{{"name", "worker"}, {"command", {"/bin/sh", "-c", script}}}}}};
    spec.merge_patch(extra);
    api.Create(resources::kPod, "default", {{"metadata", {{"name", name}}}, {"spec", spec}});
  }
  /// The pod's phase once it is one of the wanted ones.
  std::string Wait(const std::string& name, const std::vector<std::string>& wanted) {
    for (int i = 0; i < 500; ++i) {
      const std::string phase = api.Get(resources::kPod, "default", name).value("status", Json::object()).value("phase", "Pending");
      if (std::find(wanted.begin(), wanted.end(), phase) != wanted.end()) return phase;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return "timeout";
  }
  Json Terminated(const std::string& name) {
    return api.Get(resources::kPod, "default", name)["status"]["containerStatuses"][0]["state"]["terminated"];
  }
  std::string Log(const std::string& name) {
    std::ifstream in(local::ProcessRunner::LogPath(state, "default", name));
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  std::string state = "runner-state";
  kube::Clock clock;
  local::MemoryApi api{{"", nullptr}, clock};
  std::unique_ptr<local::ProcessRunner> runner;
};

TEST_F(Runner, ExitCodesLogsAndTerminationMessages) {
  Create("good", "echo hello; printf '{\"globalStep\":5}' > $ANNEAL_TERMINATION_MESSAGE_PATH");
  Create("bad", "echo trouble >&2; exit 64");
  EXPECT_EQ(Wait("good", {"Succeeded", "Failed"}), "Succeeded");
  EXPECT_EQ(Terminated("good")["message"], "{\"globalStep\":5}");
  EXPECT_EQ(Log("good"), "hello\n");
  EXPECT_EQ(Wait("bad", {"Succeeded", "Failed"}), "Failed");
  EXPECT_EQ(Terminated("bad")["exitCode"], 64);
  EXPECT_EQ(Terminated("bad")["message"], "trouble\n");  // falls back to the log
}

TEST_F(Runner, ASignalIsReportedAs128PlusIt) {
  Create("killed", "kill -9 $$");
  EXPECT_EQ(Wait("killed", {"Failed"}), "Failed");
  EXPECT_EQ(Terminated("killed")["exitCode"], 137);
}

TEST_F(Runner, DeletionTerminatesThenKills) {
  Create("stubborn", "trap '' TERM; echo up; while true; do sleep 0.1; done");
  ASSERT_EQ(Wait("stubborn", {"Running"}), "Running");
  for (int i = 0; i < 200 && Log("stubborn").empty(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  api.Delete(resources::kPod, "default", "stubborn", {}, {});
  for (int i = 0; i < 500; ++i) {
    try {
      api.Get(resources::kPod, "default", "stubborn");
    } catch (const kube::ApiError& error) {
      EXPECT_TRUE(error.not_found());
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  FAIL() << "the pod never went";
}

TEST_F(Runner, VolumesArePathsAndConfigMapsFiles) {
  api.Create(resources::kConfigMap, "default", {{"metadata", {{"name", "c"}}}, {"data", {{"pipeline.config", "text"}}}});
  Json extra = Json::parse(R"({"volumes":[{"name":"d","persistentVolumeClaim":{"claimName":"claim"}},{"name":"c","configMap":{"name":"c"}}]})");
  Json spec = {{"volumes", extra["volumes"]},
               {"containers", {{{"name", "worker"},
                                {"command", {"/bin/sh", "-c", "cat $0 > $1/out; echo $WHERE", "/etc/anneal/pipeline.config", "/data"}},
                                {"env", {{{"name", "WHERE"}, {"value", "/data"}}}},
                                {"volumeMounts", {{{"name", "d"}, {"mountPath", "/data"}}, {{"name", "c"}, {"mountPath", "/etc/anneal"}}}}}}}};
  api.Create(resources::kPod, "default", {{"metadata", {{"name", "v"}}}, {"spec", spec}});
  ASSERT_EQ(Wait("v", {"Succeeded", "Failed"}), "Succeeded") << Log("v");
  const std::string claim = local::ProcessRunner::ClaimPath(state, "default", "claim");
  std::ifstream in(claim + "/out");
  std::string text;
  in >> text;
  EXPECT_EQ(text, "text");
  EXPECT_EQ(Log("v"), claim + "\n");
}

TEST_F(Runner, APodOfALostProcessFails) {
  api.Create(resources::kPod, "default", {{"metadata", {{"name", "lost"}}}, {"spec", Json::object()}, {"status", {{"phase", "Running"}}}});
  EXPECT_EQ(Wait("lost", {"Failed"}), "Failed");
  EXPECT_EQ(api.Get(resources::kPod, "default", "lost")["status"]["reason"], "Lost");
}

}  // namespace
}  // namespace anneal::tests
