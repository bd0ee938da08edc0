#include "worker/eval/model_plan.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "worker/config/tree_sampler_settings.h"
#include "worker/dist/device.h"
#include "worker/embedding/sharded_embedding.h"

namespace anneal::eval {
namespace {

using embedding::ShardingType;

embedding::Workload WorkloadOf(const tzrec::protos::EasyRecConfig& config, const models::Network& network,
                               bool training) {
  embedding::Workload workload;
  workload.batch_size = config.data_config().batch_size();
  // parity/data.md 5.2
  if (const auto sampler = config::SamplerOf(config.data_config())) {
    workload.batch_size += sampler->num_sample + std::min<int64_t>(sampler->num_hard_sample, 8) * workload.batch_size;
  }
  if (const auto sampler = config::TreeSamplerOf(config.data_config())) {
    const auto& counts = sampler->layer_num_sample;
    workload.batch_size +=
        (std::accumulate(counts.begin(), counts.end(), int64_t{0}) + sampler->levels() - 2) * workload.batch_size;
  }
  if (training) workload.optimizer = embedding::MakeOptimizerSpec(config.train_config().sparse_optimizer()).type;
  for (const auto& parameter : network.DenseParameters()) {
    workload.dense_parameter_bytes += static_cast<double>(parameter.tensor.nbytes());
  }
  // An id and a length per lookup or element, a number per dense column.
  const auto& plan = network.plan();
  double ids = 0;
  for (const auto& lookup : plan.lookups) ids += static_cast<double>(std::max<int64_t>(lookup.length, 1));
  workload.input_bytes =
      static_cast<double>(workload.batch_size) * (16.0 * ids + 4.0 * static_cast<double>(plan.dense_width));
  return workload;
}

/// Sharding type of a plan's entry; nullopt when it says nothing of use.
std::optional<ShardingType> TypeOf(const nlohmann::json* entry) {
  if (!entry || !entry->is_object()) return std::nullopt;
  const auto name = entry->value("sharding_type", nlohmann::json());
  return name.is_string() ? embedding::ParseShardingType(name.get<std::string>()) : std::nullopt;
}

void ConstrainToSaved(const std::string& saved, std::vector<embedding::PlannedTable>& tables) {
  const auto plan = nlohmann::json::parse(saved, nullptr, /*allow_exceptions=*/false);
  const char* text = std::getenv("FORCE_LOAD_SHARDING_PLAN");
  const bool force = text && std::string(text) == "1";
  for (auto& table : tables) {
    const auto type = TypeOf(FindEntry(plan, table, tables));
    if (!type || (*type != ShardingType::kDataParallel && !force)) continue;
    if (table.constraints.sharding_types_size() > 0 || table.constraints.compute_kernels_size() > 0) continue;
    table.constraints.add_sharding_types(ShardingTypeName(*type));
  }
}

}  // namespace

embedding::Hardware AgreedHardware(dist::ProcessGroup& group) {
  embedding::Hardware hardware = embedding::Hardware::OfThisHost({group.world_size(), group.local_world_size()});
  if (group.device().is_cuda()) {
    hardware.memory = static_cast<double>(dist::FindAccelerator()->memory_bytes(group.device().index()));
  }
  const auto memory = group.AllGather(static_cast<int64_t>(hardware.memory));
  hardware.memory = static_cast<double>(*std::min_element(memory.begin(), memory.end()));
  return hardware;
}

ModelPlan PlanModel(const tzrec::protos::EasyRecConfig& config, const models::Network& network,
                    const embedding::Hardware& hardware, const PlanRequest& request) {
  ModelPlan result;
  result.tables = embedding::TablesOf(network.plan());
  result.hardware = hardware;
  result.workload = WorkloadOf(config, network, request.training);
  const auto& global = config.train_config().global_embedding_constraints();
  if (!request.given.empty()) {
    const auto json = nlohmann::json::parse(request.given, nullptr, /*allow_exceptions=*/false);
    auto placements = embedding::PlanFromJson(json, result.tables, hardware.layout, request.given_name);
    result.plan = embedding::CostOfPlan(result.tables, std::move(placements), hardware, result.workload);
    return result;
  }
  std::vector<embedding::PlannedTable> tables = result.tables;
  ConstrainToSaved(request.saved, tables);
  if (!request.training) {
    for (auto& table : tables) {
      if (AllowedTypes(table, global, hardware.layout).front() != ShardingType::kDataParallel) continue;
      table.constraints.Clear();
      table.constraints.add_sharding_types(ShardingTypeName(ShardingType::kTableWise));
    }
  }
  result.plan = embedding::PlanTables(tables, global, hardware, result.workload);
  return result;
}

}  // namespace anneal::eval
