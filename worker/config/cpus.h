// How many CPUs this process has.
#pragma once

#include <filesystem>
#include <string>

namespace anneal::config {

/// Those that it may run on, but no more than the CPU limit of its control group pays for (a pod's
/// resources.limits.cpu, which leaves all of the node's CPUs in sight): more threads would be stopped for most of each
/// period. At least 1.
int AvailableCpus();

/// The least CPU limit of the control groups that `groups` (the text of /proc/self/cgroup) names under `root`, in CPUs;
/// infinity where there is none. Versions 1 and 2.
double CpuLimit(const std::string& groups, const std::filesystem::path& root);

}  // namespace anneal::config
