#include <gtest/gtest.h>

#include "operator/kube/status_server.h"
#include "operator/serve/probe_command.h"

namespace anneal::tests {
namespace {

constexpr const char* kAddress = "127.0.0.1:18431";

TEST(Probe, WaitsUntilAllUrlsAnswer) {
  int asked = 0;
  kube::StatusServer server(
      kAddress, {}, {{"lists", [&] { return std::string(++asked < 3 ? "the first lists are not complete" : ""); }}},
      [] { return std::string("workqueue_depth 0\n"); });
  const std::string base = std::string("http://") + kAddress;
  testing::internal::CaptureStdout();
  EXPECT_EQ(serve::ProbeCommand({base + "/readyz", base + "/metrics"}, std::chrono::seconds(20)), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), base + "/readyz: ok\n" + base + "/metrics: workqueue_depth 0\n");
  EXPECT_EQ(asked, 3);
}

TEST(Probe, SaysWhatWasAnsweredLast) {
  kube::StatusServer server(
      kAddress, {}, {{"running", [] { return std::string("stopping"); }}}, nullptr);
  testing::internal::CaptureStderr();
  EXPECT_EQ(serve::ProbeCommand({std::string("http://") + kAddress + "/readyz"}, std::chrono::seconds(0)), 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("/readyz: 503 [-]running failed: stopping"), std::string::npos);
}

}  // namespace
}  // namespace anneal::tests
