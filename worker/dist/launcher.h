// `anneal launch`: torchrun for one pod: one child process per GPU (or CPU process) of this node.
#pragma once

#include <string>
#include <vector>

namespace anneal::dist {

struct LaunchOptions {
  int nnodes = 1, node_rank = 0, nproc_per_node = 1;
  std::string master_addr = "127.0.0.1";
  int master_port = 0;               ///< 0: a free port (one node only)
  std::vector<std::string> command;  ///< subcommand of this program and its arguments
  std::string program;               ///< what to run; default: this program
};

/// Starts the children with RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT set
/// and waits. SIGTERM and SIGINT are forwarded. The first failure stops the other children (SIGTERM, SIGKILL after 10
/// s). With several processes each output line begins with "[rank <n>] ". Children die with this process.
///
/// Returns 0, or the exit code of the rank to blame: the first that failed with a code of its own (76 says "a peer
/// failed"); 128 + n when a signal ended it; 143 when all stopped after SIGTERM. Its last lines are printed again.
int Launch(const LaunchOptions& options);

/// NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT as defaults. Throws ConfigError.
LaunchOptions LaunchDefaults();

}  // namespace anneal::dist
