// Where a model's tables live in this run: the plan file that was given, or the planner's choice.
#pragma once

#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/planner.h"
#include "worker/models/network.h"

namespace anneal::eval {

struct PlanRequest {
  std::string given;       ///< text of a plan file; empty: the planner chooses
  std::string given_name;  ///< names it in errors
  /// The plan of the checkpoint that will be restored, or empty. Tables that are data-parallel there stay so unless
  /// their feature's constraints say otherwise, because their optimizer state is a dense optimizer's. With
  /// FORCE_LOAD_SHARDING_PLAN=1 every table keeps its sharding type.
  std::string saved;
  bool training = true;  ///< false: no optimizer state, and tables of the dense optimizer are like any other
};

struct ModelPlan {
  std::vector<embedding::PlannedTable> tables;
  embedding::Plan plan;
  embedding::Hardware hardware;
  embedding::Workload workload;

  std::vector<std::string> Lines() const { return PlanLines(tables, plan, hardware, workload); }
};

/// What all ranks agree on: this host's, with the memory of the rank that has least. A collective.
embedding::Hardware AgreedHardware(dist::ProcessGroup& group);

/// Throws ConfigError for a plan that does not fit the model and when no plan fits the hardware.
ModelPlan PlanModel(const tzrec::protos::EasyRecConfig& config, const models::Network& network,
                    const embedding::Hardware& hardware, const PlanRequest& request);

}  // namespace anneal::eval
