#include "worker/train/engine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "worker/dist/vector_tensor.h"
#include "worker/embedding/id_numbers.h"
#include "worker/eval/trained_model.h"
#include "worker/train/progress/step_times.h"

namespace anneal::train {
namespace {

/// What ranks tell each other with the gradients: how many of them say so, and how many rows they have.
enum Flag { kStop, kFoundInf, kSaved, kDump, kRows, kFlags };

void ZerosWhereMissing(const embedding::LookedUp& found, embedding::LookedUp& gradient) {
  if (!gradient.pooled.defined()) gradient.pooled = at::zeros_like(found.pooled.detach());
  if (found.elements.defined() && !gradient.elements.defined())
    gradient.elements = at::zeros_like(found.elements.detach());
}

bool AllFinite(const embedding::LookedUp& gradient) {
  return optim::AllFinite(gradient.pooled) && (!gradient.elements.defined() || optim::AllFinite(gradient.elements));
}

}  // namespace

Engine::Engine(models::Network& network, embedding::ShardedEmbedding& tables, optim::OptimizerGroups& optimizers,
               const tzrec::protos::TrainConfig& config, dist::ProcessGroup& group, uint64_t seed)
    : network_(network),
      tables_(tables),
      optimizers_(optimizers),
      group_(group),
      accumulation_(std::max<int64_t>(config.gradient_accumulation_steps(), 1)),
      clipping_(config.grad_clipping()),
      dense_pass_(network, optimizers.parameters(), accumulation_, group.device()),
      copy_(group.device()),
      seed_(seed),
      numbers_ids_(group.device().is_cpu() && config.mixed_precision().empty() && !tables.clamps_gradients()) {
  network_.set_autocast(nn::MixedPrecisionType(config.mixed_precision(), "train_config.mixed_precision"));
  if (config.has_grad_scaler()) scaler_.emplace(config.grad_scaler());
  if (config.dense_optimizer().has_ema()) {
    ema_.emplace(config.dense_optimizer().ema().decay(), optimizers_.parameters());
  }
  if (group_.world_size() > 1) {
    average_ = std::make_unique<GradientAverage>(optimizers_.parameters(), group_, kFlags);
  }
}

StepResult Engine::Step(const data::Batch& batch, int64_t step, const Rates& rates, const Votes& votes,
                        const data::Batch* next) {
  StepResult result;
  StepTimes& times = StepTimes::OfProcess();
  at::manual_seed(seed_ * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(step) * 1000003ULL +
                  static_cast<uint64_t>(group_.rank()));
  tables_.set_learning_rate(rates.sparse);
  const embedding::LookedUp found = tables_.Forward(batch);
  if (next) tables_.Prefetch(*next);
  times.End(Phase::kLookup);
  if (tables_.global_rows() == 0) {
    result.ended = true;
    return result;
  }
  if (accumulated_steps_ % accumulation_ == 0) optimizers_.ZeroGradients();
  embedding::LookedUp gradient;
  const double factor = network_.weighs_ranks() ? ShareOfLabels(batch) : 1;
  if (batch.rows > 0) {
    models::Targets targets = network_.MakeTargets(batch);
    targets.factor = factor;
    const auto send = [this](const at::Tensor& host) { return copy_.Send(host); };
    DensePass::Input input{found,
                           send(eval::DenseTensor(batch, network_.plan().dense_width)),
                           models::LayoutOf(network_.plan(), batch).Map(send),
                           targets.Map(send),
                           {},
                           {},
                           eval::SampledOf(batch)};
    if (numbers_ids_) input.repeated = embedding::NumberIds(network_.plan(), batch);
    copy_.Await();
    if (scaler_) input.scale = at::full({}, scaler_->scale(), found.pooled.options());
    DensePass::Result dense = dense_pass_.Run(input, [this] {
      if (average_) average_->Start();
    });
    result.losses = std::move(dense.losses);
    result.losses.emplace_back(kTotalLoss, dense.total);
    result.predictions = std::move(dense.predictions);
    gradient = dense.gradient;
  }
  ZerosWhereMissing(found, gradient);
  tables_.AccumulateDenseGradients(gradient);
  std::vector<float> flags(kFlags, 0.0f);
  flags[kStop] = votes.stop ? 1.0f : 0.0f;
  flags[kSaved] = votes.saved ? 1.0f : 0.0f;
  flags[kDump] = votes.dump ? 1.0f : 0.0f;
  flags[kRows] = static_cast<float>(batch.read);
  flags[kFoundInf] = scaler_ && !AllFinite(gradient) ? 1.0f : 0.0f;
  if (average_) average_->SendRest(flags);
  // A gradient that overflowed would ruin the rows that it touches for good. Only a scaler has to know before.
  const bool wait = average_ && scaler_;
  if (wait) flags = average_->Finish();
  times.End(Phase::kDenseUpdate);
  if (flags[kFoundInf] == 0) {
    tables_.BackwardUpdate(gradient, rates.sparse, scaler_ ? scaler_->inverse_scale() : 1.0f);
  }
  times.End(Phase::kSparseUpdate);
  if (average_ && !wait) flags = average_->Finish();
  if (++accumulated_steps_ % accumulation_ == 0) UpdateDense(rates);
  times.End(Phase::kDenseUpdate);
  result.stop_asked = flags[kStop] > 0;
  result.dump_asked = flags[kDump] > 0;
  result.rows = static_cast<int64_t>(flags[kRows]);
  result.all_saved = flags[kSaved] == static_cast<float>(group_.world_size());
  return result;
}

// The mean over ranks of their losses is then that over all labels.
double Engine::ShareOfLabels(const data::Batch& batch) {
  const double ranks = group_.world_size();
  const auto own = static_cast<double>(batch.rows > 0 ? models::CountLabels(batch) : 0);
  if (ranks == 1) return 1;
  std::vector<double> total{own};
  group_.AllReduceSum(dist::AsTensor(total));
  return total.front() > 0 ? own * ranks / total.front() : 1;
}

void Engine::UpdateDense(const Rates& rates) {
  const auto& parameters = optimizers_.parameters();
  const bool found_inf = scaler_ && scaler_->Unscale(parameters);
  if (!found_inf) {
    clipping_.Apply(parameters);
    optimizers_.Step(rates.dense);
    if (ema_) ema_->Update();
  }
  if (scaler_) scaler_->Update(found_inf);
}

std::vector<nn::NamedTensor> Engine::AccumulatedGradients(bool make) {
  std::vector<nn::NamedTensor> gradients;
  if (accumulated_steps_ % accumulation_ == 0) return gradients;
  for (const auto& parameter : optimizers_.parameters()) {
    at::Tensor& gradient = parameter.tensor.mutable_grad();
    if (!gradient.defined() && make) gradient = at::zeros_like(parameter.tensor.detach());
    if (gradient.defined()) gradients.push_back({parameter.name + "//accumulated_gradient", gradient});
  }
  return gradients;
}

}  // namespace anneal::train
