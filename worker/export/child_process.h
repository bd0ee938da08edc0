// A program run to its end, its output kept.
#pragma once

#include <string>
#include <vector>

namespace anneal::exporting {

struct ChildResult {
  int status = 0;          ///< exit code; 128 + signal when a signal ended it; 127 when it could not be started
  std::string last_lines;  ///< at most 2000 characters of its standard output and error together
};

/// Runs arguments[0] (looked up in PATH) with this process's environment and waits for it. It is killed with this
/// process: a compiler that went on would write into the folder of the next export.
ChildResult RunChild(const std::vector<std::string>& arguments);

}  // namespace anneal::exporting
