// A pod's container as a command line of this machine: what to run and what its paths and names become.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "operator/kube/api.h"

namespace anneal::local {

/// Mount path in the container -> folder here.
using PathMap = std::vector<std::pair<std::string, std::string>>;

/// Replaces every mount path that stands at a path boundary ("/data", "/data/x", "file:///data", "a=/data") by its
/// folder; the longest mount path wins.
std::string RewritePaths(const std::string& text, const PathMap& paths);

struct PodCommand {
  std::vector<std::string> args;           ///< program first
  std::map<std::string, std::string> env;  ///< added to this process's
};

struct LocalNames {
  int master_port = 0, progress_port = 0;
  std::string programs;  ///< folder of `anneal`
};

/// `command` + `args` and `env` of the first container with paths, Service names and ports made local.
PodCommand MakePodCommand(const kube::Json& pod, const PathMap& paths, const LocalNames& names);

}  // namespace anneal::local
