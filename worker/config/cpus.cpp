#include "worker/config/cpus.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

namespace anneal::config {
namespace {

namespace fs = std::filesystem;

constexpr double kNone = std::numeric_limits<double>::infinity();

double Share(double quota, double period) { return quota > 0 && period > 0 ? quota / period : kNone; }

/// cpu.max: "QUOTA PERIOD" in microseconds, "max" for no limit.
double LimitOfVersion2(const fs::path& group) {
  std::ifstream in(group / "cpu.max");
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max") return kNone;
  double microseconds = 0;
  return std::istringstream(quota) >> microseconds ? Share(microseconds, period) : kNone;
}

double LimitOfVersion1(const fs::path& group) {
  double quota = 0, period = 0;  // quota -1: no limit
  std::ifstream(group / "cpu.cfs_quota_us") >> quota;
  std::ifstream(group / "cpu.cfs_period_us") >> period;
  return Share(quota, period);
}

}  // namespace

// A container often sees its own group as the root while /proc names it as the host does: groups that are not there are
// passed over, the root is always read.
double CpuLimit(const std::string& groups, const fs::path& root) {
  double least = kNone;
  std::istringstream lines(groups);
  for (std::string line; std::getline(lines, line);) {  // number:controllers:/path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool version2 = controllers.empty();
    if (!version2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const fs::path top = version2 ? root : root / controllers;
    fs::path below = fs::path(line.substr(second + 1)).relative_path();
    for (;; below = below.parent_path()) {
      least = std::min(least, version2 ? LimitOfVersion2(top / below) : LimitOfVersion1(top / below));
      if (below.empty()) break;
    }
  }
  return least;
}

int AvailableCpus() {
  std::ostringstream groups;
  if (std::ifstream in("/proc/self/cgroup"); in) groups << in.rdbuf();
  const double cpus = std::max(1U, std::thread::hardware_concurrency());
  return static_cast<int>(std::max(1.0, std::min(cpus, CpuLimit(groups.str(), "/sys/fs/cgroup"))));
}

}  // namespace anneal::config
