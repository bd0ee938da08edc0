// `anneal-operator run FILE...`: the operator embedded, until every job of the files has ended.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace anneal::local {

struct RunOptions {
  std::vector<std::string> files;
  std::string state = "anneal-state";
  std::string programs;  ///< folder of `anneal`
  int64_t timeout_seconds = 0;
};

/// 0 when every job ended well, 1 otherwise, 130 after Ctrl-C (workers get to write a checkpoint; the state stays and
/// a later run goes on from it).
int RunCommand(const RunOptions& options);

/// Commands on a state folder, while `run` runs or after.
int GetCommand(const std::string& state, const std::string& kind, const std::string& name, const std::string& output);
int DescribeCommand(const std::string& state, const std::string& kind, const std::string& name);
int LogsCommand(const std::string& state, const std::string& name, bool follow);

}  // namespace anneal::local
