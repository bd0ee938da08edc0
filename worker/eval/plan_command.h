// `anneal plan`: where a model's tables would live, without data, training or other ranks.
#pragma once

#include <string>

namespace anneal::eval {

struct PlanOptions {
  std::string pipeline_config_path, edit_config_json;
  int nnodes = 1, nproc_per_node = 1;
  double memory_gib = 0;      ///< of one rank; 0: this host's divided by nproc_per_node
  std::string sharding_plan;  ///< a plan file to judge instead of the planner's choice
  std::string output;         ///< plan file to write, for --sharding_plan of train
};

/// Prints the plan as a table on stdout; returns the exit code. Throws ConfigError when none fits.
int RunPlan(const PlanOptions& options);

}  // namespace anneal::eval
