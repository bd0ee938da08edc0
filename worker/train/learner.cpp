#include "worker/train/learner.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/eval/threads.h"
#include "worker/nn/arithmetic.h"
#include "worker/train/progress/log.h"

namespace anneal::train {
namespace {

using nlohmann::json;

/// No object where the checkpoint's is damaged; an empty one where it has none.
json TrainState(const checkpoint::Reader& reader) {
  return json::parse(reader.file("train_state.json").value_or("{}"), nullptr, false);
}

/// Parameters of the dense optimizer, in the module order of TorchEasyRec.
std::vector<nn::NamedTensor> DenseParameters(const models::Network& network,
                                             const embedding::ShardedEmbedding& tables) {
  std::vector<nn::NamedTensor> parameters;
  for (const auto& table : tables.dense_tables()) {
    if (table.tensor.requires_grad()) parameters.push_back(table);
  }
  for (auto& parameter : network.DenseParameters()) parameters.push_back(std::move(parameter));
  return parameters;
}

/// Every rank computes with the kernels that rank 0 found the fastest.
void ChooseKernels(const models::Network& network, int64_t rows, dist::ProcessGroup& group) {
  auto& arithmetic = nn::Arithmetic::OfProcess();
  if (arithmetic.forced()) return;
  if (group.rank() == 0) arithmetic.Measure(network.DenseParameters(), rows);
  if (group.world_size() > 1) arithmetic.FromText(group.AllGatherText(arithmetic.ToText()).front());
}

void LogParts(const tzrec::protos::DenseOptimizer& config, const optim::OptimizerGroups& groups) {
  if (config.part_optimizers_size() == 0) return;
  for (const auto& group : groups.groups()) {
    std::string names;
    for (const auto& parameter : group.optimizer->parameters())
      names += (names.empty() ? "'" : ", '") + parameter.name + "'";
    LogInfo((group.part < 0 ? "remaining_params" : "part_optim_params" + std::to_string(group.part)) + ":[" + names +
            "]");
  }
}

}  // namespace

uint64_t SeedOf(const char* variable) {
  const char* text = std::getenv(variable);
  if (!text || !*text) return 0;
  char* end = nullptr;
  const uint64_t seed = std::strtoull(text, &end, 10);
  if (*end || *text < '0' || *text > '9')
    throw ConfigError(std::string("environment variable ") + variable + "='" + text + "' is no whole number");
  return seed;
}

Learner::Learner(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
                 dist::ProcessGroup& group, const dist::Topology& topology, const eval::PlanRequest& plan)
    : network_((at::manual_seed(SeedOf("TORCH_MANUAL_SEED")), config), features) {
  const auto& train = config.train_config();
  const auto planned = eval::PlanModel(config, network_, eval::AgreedHardware(group), plan);
  if (topology.rank == 0) {
    for (const std::string& line : planned.Lines()) LogInfo(line);
  }
  const int threads = eval::UseThreads(topology);
  ChooseKernels(network_, config.data_config().batch_size(), group);
  tables_ = std::make_unique<embedding::ShardedEmbedding>(
      network_.plan(), planned.plan.placements, embedding::MakeOptimizerSpec(train.sparse_optimizer()), group, threads);
  network_.To(group.device());
  tables_->Initialize(SeedOf("TORCH_MANUAL_SEED"));
  optimizers_ = std::make_unique<optim::OptimizerGroups>(train.dense_optimizer(), DenseParameters(network_, *tables_));
  if (topology.rank == 0) LogParts(train.dense_optimizer(), *optimizers_);
  sparse_optimizer_ = embedding::SparseOptimizerName(train.sparse_optimizer());
  const double sparse_base = embedding::SparseBaseLearningRate(train.sparse_optimizer());
  rates_ = std::make_unique<LearningRates>(optim::MakeSchedule(train.sparse_optimizer(), sparse_base), *optimizers_);
  engine_ = std::make_unique<Engine>(network_, *tables_, *optimizers_, train, group, SeedOf("TORCH_MANUAL_SEED"));
  metrics_ = std::make_unique<TrainMetrics>(network_, group);
}

std::vector<double> Learner::RateGroups(const Rates& rates) const {
  std::vector<double> groups;
  for (const double factor : tables_->group_factors()) groups.push_back(factor * rates.sparse);
  groups.insert(groups.end(), rates.dense.begin(), rates.dense.end());
  return groups;
}

eval::Freeze Learner::Freeze() { return {true, tables_->Snapshot()}; }

std::vector<checkpoint::Piece> Learner::ModelPieces(int rank, const eval::Freeze& freeze) {
  return eval::ModelPieces(network_, *tables_, rank, freeze);
}

std::vector<checkpoint::Piece> Learner::OptimizerPieces(int rank, const eval::Freeze& freeze) {
  std::vector<nn::NamedTensor> dense = optimizers_->State();
  if (engine_->ema()) {
    for (auto& entry : engine_->ema()->State()) dense.push_back(std::move(entry));
  }
  for (auto& entry : engine_->AccumulatedGradients()) dense.push_back(std::move(entry));
  return eval::OptimizerPieces(dense, *tables_, rank, freeze);
}

json Learner::PlanJson() const {
  return embedding::PlanToJson(embedding::TablesOf(network_.plan()), tables_->placements());
}

json Learner::StateJson() {
  json state{{"schedule_steps", rates_->steps()},           {"epoch_schedule_steps", rates_->passes()},
             {"embedding_iteration", tables_->iteration()}, {"accumulated_steps", engine_->accumulated_steps()},
             {"sparse_optimizer", sparse_optimizer_},       {"arithmetic", nn::Arithmetic::OfProcess().ToText()}};
  if (const auto* ema = engine_->ema()) state["ema_updates"] = ema->updates();
  if (const auto* scaler = engine_->scaler()) {
    state["grad_scaler"] = {{"scale", scaler->scale()}, {"growth_tracker", scaler->growth_tracker()}};
  }
  if (json metrics = metrics_->StateJson(); !metrics.empty()) state["train_metrics"] = std::move(metrics);
  return state;
}

void Learner::RestoreModel(const checkpoint::Reader& reader, const eval::NameMap& names) {
  eval::RestoreModel(reader, network_, *tables_, names);
}

void Learner::RestoreEma(const checkpoint::Reader& reader, const eval::NameMap& names) {
  auto* ema = engine_->ema();
  if (!ema) return;
  const auto averages = ema->State();
  bool any = false;
  for (const auto& average : averages) any = any || reader.has(average.name);
  if (!any && names.empty()) {
    LogWarning(reader.path() + " has no dense EMA weights: they start with the next update");
    return;
  }
  // An average that the checkpoint lacks goes on from the restored parameter.
  ema->Update();
  eval::RestoreTensors(reader, averages, names);
  const json state = TrainState(reader);
  ema->set_updates(state.is_object() ? std::max<int64_t>(state.value("ema_updates", int64_t{1}), 1) : 1);
}

// States of different optimizers have the same names and shapes, but not the same meaning.
void Learner::RestoreOptimizer(const checkpoint::Reader& reader, const eval::NameMap& names) {
  const json state = TrainState(reader);
  const std::string before = state.is_object() ? state.value("sparse_optimizer", sparse_optimizer_) : sparse_optimizer_;
  if (before != sparse_optimizer_) {
    throw ConfigError("train_config.sparse_optimizer is " + sparse_optimizer_ + ", " + reader.path() +
                      " was trained with " + before +
                      ": pass --ignore_restore_optimizer to begin with new optimizer states");
  }
  eval::RestoreOptimizer(reader, optimizers_->State(), *tables_, names);
}

void Learner::RestoreState(const checkpoint::Reader& reader, int64_t next_step) {
  const json state = TrainState(reader);
  if (!state.is_object()) throw DataError(reader.path() + "/train_state.json is not a JSON object");
  rates_->Restore(state.value("schedule_steps", next_step), state.value("epoch_schedule_steps", int64_t{0}));
  tables_->set_iteration(state.value("embedding_iteration", next_step));
  engine_->set_accumulated_steps(state.value("accumulated_steps", next_step));
  // Other kernels would round otherwise than the run so far.
  auto& arithmetic = nn::Arithmetic::OfProcess();
  const std::string before = state.value("arithmetic", arithmetic.ToText());
  if (!arithmetic.forced()) {
    arithmetic.FromText(before);
  } else if (before != arithmetic.ToText()) {
    LogWarning("the environment asks for other kernels of linear layers (" + arithmetic.ToText() + ") than " +
               reader.path() + " was trained with (" + before + "): the last bits will differ");
  }
  if (auto* scaler = engine_->scaler(); scaler && state.contains("grad_scaler")) {
    scaler->Restore(state["grad_scaler"].value("scale", scaler->scale()),
                    state["grad_scaler"].value("growth_tracker", 0));
  }
  if (state.contains("train_metrics")) metrics_->Restore(state["train_metrics"]);
  eval::RestoreTensors(reader, engine_->AccumulatedGradients(/*make=*/true));
}

}  // namespace anneal::train
