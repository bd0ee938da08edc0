#include "worker/eval/plan_command.h"

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/eval/model_plan.h"

namespace anneal::eval {

int RunPlan(const PlanOptions& options) {
  if (options.nnodes < 1 || options.nproc_per_node < 1) {
    throw ConfigError("plan: --nnodes and --nproc-per-node must be at least 1");
  }
  if (options.memory_gib < 0) throw ConfigError("plan: --memory-gib must not be negative");
  config::Overrides overrides;
  overrides.edit_config_json = options.edit_config_json;
  const auto config = config::LoadForRun(options.pipeline_config_path, overrides);
  const auto features = features::FeatureSet::FromConfig(config);
  const models::Network network(config, features);
  const int ranks = options.nnodes * options.nproc_per_node;
  embedding::Hardware hardware = embedding::Hardware::OfThisHost({ranks, options.nproc_per_node});
  if (options.memory_gib > 0) hardware.memory = options.memory_gib * (1 << 30);
  PlanRequest request;
  request.given_name = options.sharding_plan;
  if (!options.sharding_plan.empty()) request.given = config::ReadTextFile(options.sharding_plan);
  const ModelPlan plan = PlanModel(config, network, hardware, request);
  for (const std::string& line : plan.Lines()) std::cout << line << "\n";
  if (options.output.empty()) return 0;
  std::ofstream out(options.output);
  out << embedding::PlanToJson(plan.tables, plan.plan.placements).dump(1) << "\n";
  if (!out.flush()) throw TemporaryError("cannot write " + options.output);
  return 0;
}

}  // namespace anneal::eval
