#include "worker/eval/trained_model.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <atomic>

#include "worker/config/error.h"
#include "worker/embedding/id_numbers.h"
#include "worker/eval/model_plan.h"
#include "worker/eval/model_state.h"
#include "worker/models/match_towers.h"
#include "worker/models/sequence_assembly.h"
#include "worker/train/progress/log.h"

namespace anneal::eval {
namespace {

/// The parameters of `model` that the checkpoint lacks.
std::vector<std::string> MissingParameters(const checkpoint::Reader& reader, TrainedModel& model) {
  std::vector<std::string> missing;
  const auto look_for = [&](const std::string& name) {
    if (!reader.has(name)) missing.push_back(name);
  };
  for (const auto& entry : model.network().StoredParameters()) look_for(entry.name);
  for (const auto& shard : model.embedding().weights()) look_for(shard.name);
  return missing;
}

}  // namespace

TrainedModel::TrainedModel(const tzrec::protos::EasyRecConfig& config, dist::ProcessGroup& group, int threads,
                           const std::string& tower)
    : config_(config), features_(features::FeatureSet::FromConfig(config_)), network_(config_, features_, tower) {
  PlanRequest request;
  request.training = false;
  const auto planned = PlanModel(config_, network_, AgreedHardware(group), request);
  embedding_ = std::make_unique<embedding::ShardedEmbedding>(network_.plan(), planned.plan.placements,
                                                             embedding::OptimizerSpec{}, group, threads);
  network_.Train(false);
  network_.To(group.device());
}

std::unique_ptr<TrainedModel> TrainedModel::Load(const tzrec::protos::EasyRecConfig& config,
                                                 const std::string& checkpoint, dist::ProcessGroup& group, int threads,
                                                 const LoadOptions& options) {
  const auto reader = checkpoint::OpenLatest(checkpoint, LogWarning);
  if (!reader) {
    throw ConfigError("Eval checkpoint path should be specified." +
                      (checkpoint.empty() ? "" : " There is no checkpoint at " + checkpoint));
  }
  std::unique_ptr<TrainedModel> model(new TrainedModel(config, group, threads, options.tower));
  LogInfo("Restoring checkpoint from " + reader->path() + "...");
  const auto missing = MissingParameters(*reader, *model);
  if (options.complete && !missing.empty()) {
    throw ConfigError(reader->path() + " lacks " + std::to_string(missing.size()) +
                      " of the model's parameters, the first is '" + missing.front() +
                      "': it is a checkpoint of another config");
  }
  if (!missing.empty()) model->embedding_->Initialize(0);  // random numbers for every row take as long as reading it
  RestoreModel(*reader, model->network_, *model->embedding_);
  if (options.use_dense_ema) OverlayDenseEma(*reader, model->network_, *model->embedding_);
  model->step_ = reader->step();
  model->checkpoint_ = reader->path();
  return model;
}

models::Predictions TrainedModel::Predict(const data::Batch& batch) { return Infer(network_, *embedding_, batch); }

void BuildOnce(const tzrec::protos::EasyRecConfig& config) {
  const auto features = features::FeatureSet::FromConfig(config);
  const models::Network network(config, features);
  TellOfUnreadGroups(config.model_config());
}

void TellOfUnreadGroups(const tzrec::protos::ModelConfig& model) {
  std::string names;
  for (const std::string& group : models::UnreadGroups(model)) names += (names.empty() ? "'" : ", '") + group + "'";
  if (!names.empty()) LogWarning("model_config.feature_groups: no tower of the model reads " + names);
}

void TellOfIdsOutside(const embedding::ShardedEmbedding& tables) {
  static std::atomic<bool> told{false};
  if (tables.out_of_range() == 0 || told.exchange(true)) return;
  LogWarning(
      std::to_string(tables.out_of_range()) +
      " ids so far were outside of their table and count as row 0: num_buckets, or a default value, is too small "
      "or large for the data");
}

models::Predictions Infer(models::Network& network, embedding::ShardedEmbedding& tables, const data::Batch& batch) {
  const c10::AutoGradMode no_grad(false);
  const bool training = network.training();
  if (training) network.Train(false);
  const embedding::LookedUp found = tables.Forward(batch);
  models::Predictions predictions;
  if (batch.rows > 0) predictions = network.Forward(MakeInput(network.plan(), batch, found));
  for (auto& [name, value] : predictions.values) {
    value = value.to(at::kCPU, value.is_floating_point() ? at::kFloat : value.scalar_type());
  }
  if (predictions.candidates.defined()) predictions.candidates = predictions.candidates.to(at::kCPU);
  TellOfIdsOutside(tables);
  if (training) network.Train(true);
  return predictions;
}

models::NetworkInput MakeInput(const models::EmbeddingPlan& plan, const data::Batch& batch,
                               const embedding::LookedUp& found) {
  const auto device = found.pooled.device();
  models::NetworkInput input{
      found.pooled, DenseTensor(batch, plan.dense_width).to(device), {}, SampledOf(batch), nullptr};
  if (device.is_cpu()) input.repeated = embedding::NumberIds(plan, batch);
  if (plan.sequence_groups.empty()) return input;
  const auto layout = models::LayoutOf(plan, batch).Map([&](const at::Tensor& host) { return host.to(device); });
  input.sequences = models::AssembleSequences(plan, layout, found.elements, input.dense);
  return input;
}

models::SampledItems SampledOf(const data::Batch& batch) {
  models::SampledItems sampled{batch.negatives, {}};
  const auto hard = static_cast<int64_t>(batch.hard_negatives.size());
  if (hard == 0) return sampled;
  sampled.hard = at::empty({hard, 2}, at::kLong);
  int64_t* to = sampled.hard.mutable_data_ptr<int64_t>();
  for (const auto& [row, number] : batch.hard_negatives) *to++ = row, *to++ = number;
  return sampled;
}

at::Tensor DenseTensor(const data::Batch& batch, int64_t dense_width) {
  return at::from_blob(const_cast<float*>(batch.dense.data()), {batch.rows, dense_width}, at::kFloat);
}

}  // namespace anneal::eval
