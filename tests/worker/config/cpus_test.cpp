// CPU limits of control groups, as the kernel's files say them.
#include "worker/config/cpus.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <thread>

namespace anneal::config {
namespace {

namespace fs = std::filesystem;

class CpuLimitTest : public testing::Test {
 protected:
  void SetUp() override { fs::remove_all(root_); }
  void Write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  const fs::path root_ = fs::path(testing::TempDir()) / "anneal_cpus_test";
};

TEST_F(CpuLimitTest, Version2) {
  const std::string groups = "0::/kubepods/pod1/worker\n";
  EXPECT_TRUE(std::isinf(CpuLimit(groups, root_)));
  Write("kubepods/pod1/worker/cpu.max", "max 100000");
  EXPECT_TRUE(std::isinf(CpuLimit(groups, root_)));
  Write("kubepods/pod1/worker/cpu.max", "250000 100000");
  EXPECT_EQ(CpuLimit(groups, root_), 2.5);
  Write("kubepods/cpu.max", "800000 100000");
  EXPECT_EQ(CpuLimit(groups, root_), 2.5);
  Write("kubepods/pod1/cpu.max", "50000 100000");
  EXPECT_EQ(CpuLimit(groups, root_), 0.5);
  Write("kubepods/pod2/cpu.max", "10000 100000");  // somebody else's
  EXPECT_EQ(CpuLimit(groups, root_), 0.5);
}

TEST_F(CpuLimitTest, AContainerSeesItsGroupAsTheRoot) {
  Write("cpu.max", "200000 100000");
  EXPECT_EQ(CpuLimit("0::/\n", root_), 2);
  EXPECT_EQ(CpuLimit("0::/kubepods/pod1/worker\n", root_), 2);
  EXPECT_EQ(CpuLimit("0::/../../other\n", root_), 2);
}

TEST_F(CpuLimitTest, Version1) {
  const std::string groups = "9:memory:/pod\n4:cpu,cpuacct:/pod\n3:cpuset:/pod\n0::/pod\n";
  Write("cpu,cpuacct/pod/cpu.cfs_quota_us", "-1");
  Write("cpu,cpuacct/pod/cpu.cfs_period_us", "100000");
  EXPECT_TRUE(std::isinf(CpuLimit(groups, root_)));
  Write("cpu,cpuacct/pod/cpu.cfs_quota_us", "400000");
  EXPECT_EQ(CpuLimit(groups, root_), 4);
}

TEST_F(CpuLimitTest, WhatIsNotUnderstoodLimitsNothing) {
  Write("pod/cpu.max", "soon");
  for (const char* groups : {"", "\n", "nonsense", "0:", "0::", "0::/pod", "0::/pod/"})
    EXPECT_TRUE(std::isinf(CpuLimit(groups, root_))) << groups;
  Write("pod/cpu.max", "-5 100000");
  EXPECT_TRUE(std::isinf(CpuLimit("0::/pod\n", root_)));
  Write("pod/cpu.max", "5 0");
  EXPECT_TRUE(std::isinf(CpuLimit("0::/pod\n", root_)));
}

TEST(AvailableCpus, AreAtLeastOneAndAtMostTheMachines) {
  EXPECT_GE(AvailableCpus(), 1);
  EXPECT_LE(AvailableCpus(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace anneal::config
