// Who this process is among the others; from torchrun's environment variables (parity/train.md 15).
#pragma once

#include <chrono>
#include <string>

namespace anneal::dist {

struct Topology {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_world_size = 1;
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  std::chrono::seconds timeout{1800};  ///< PROCESS_GROUP_TIMEOUT_SECONDS

  /// Throws ConfigError when a variable is not a number or out of range.
  static Topology FromEnvironment();
};

}  // namespace anneal::dist
