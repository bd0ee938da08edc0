// One training step: lookup, forward, backward, fused table update, dense step (parity/train.md 8-11). Knows nothing
// of files or schedules.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tzrec/train.pb.h"
#include "worker/data/batch.h"
#include "worker/dist/device_copy.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/models/network.h"
#include "worker/optim/dense_ema.h"
#include "worker/optim/grad_scaler.h"
#include "worker/optim/gradient_clipping.h"
#include "worker/optim/optimizer_groups.h"
#include "worker/train/dense_pass.h"
#include "worker/train/gradient_average.h"
#include "worker/train/learning_rates.h"

namespace anneal::train {

/// What a rank tells the others with a step.
struct Votes {
  bool stop = false;   ///< this rank wants to stop after the step (SIGTERM)
  bool saved = false;  ///< its part of the checkpoint in work is written
  bool dump = false;   ///< by its clock a delta embedding dump is due
};

inline constexpr char kTotalLoss[] = "total";

/// What a step leaves behind, until the next. Gradients of the dense parameters stay in .grad() as long.
struct StepResult {
  bool ended = false;       ///< no rank had a row: the pass is over, nothing was trained
  bool stop_asked = false;  ///< some rank asked to stop: every rank sees this after the same step
  bool all_saved = false;   ///< every rank has written its part: the same
  bool dump_asked = false;  ///< some rank finds a dump due: the same
  int64_t rows = 0;         ///< of all ranks, without sampled items
  /// Scalars of this rank, then kTotalLoss: what was made small; empty when this rank had no rows.
  models::Losses losses;
  models::Predictions predictions;  ///< of this rank's rows before the update
};

/// Runs on every rank in step: each call is collective. A rank whose data ended takes part with an empty batch until
/// all have ended, so uneven data ends cleanly.
class Engine {
 public:
  /// `optimizers` trains the network's dense parameters and the dense tables. Throws ConfigError.
  Engine(models::Network& network, embedding::ShardedEmbedding& tables, optim::OptimizerGroups& optimizers,
         const tzrec::protos::TrainConfig& config, dist::ProcessGroup& group, uint64_t seed);

  /// `step` seeds dropout, so that a resumed run draws what an undisturbed one would.
  ///
  /// Gradient accumulation over N steps: the loss is divided by N, tables are updated in every step, dense parameters
  /// in every N-th. With a GradScaler a step whose gradients are not all finite changes no dense parameter (at the end
  /// of its N steps) and no table (in this step).
  ///
  /// `next`: the batch of the step after, whose ids travel to their ranks during this one; every rank gives one or
  /// none.
  StepResult Step(const data::Batch& batch, int64_t step, const Rates& rates, const Votes& votes,
                  const data::Batch* next = nullptr);

  optim::DenseEma* ema() { return ema_ ? &*ema_ : nullptr; }
  optim::GradScaler* scaler() { return scaler_ ? &*scaler_ : nullptr; }

  /// Steps made, of which every N-th updated dense parameters.
  int64_t accumulated_steps() const { return accumulated_steps_; }
  void set_accumulated_steps(int64_t steps) { accumulated_steps_ = steps; }
  /// Gradients of an unfinished accumulation as "<parameter>//accumulated_gradient"; empty between accumulations. With
  /// `make`, parameters without a gradient get one of zeros (to restore into).
  std::vector<nn::NamedTensor> AccumulatedGradients(bool make = false);

 private:
  void UpdateDense(const Rates& rates);
  /// Labels of this rank by the mean over ranks. A collective.
  double ShareOfLabels(const data::Batch& batch);

  models::Network& network_;
  embedding::ShardedEmbedding& tables_;
  optim::OptimizerGroups& optimizers_;
  dist::ProcessGroup& group_;
  const int64_t accumulation_;
  optim::GradientClipping clipping_;
  std::optional<optim::GradScaler> scaler_;
  std::optional<optim::DenseEma> ema_;
  DensePass dense_pass_;
  dist::DeviceCopy copy_;
  std::unique_ptr<GradientAverage> average_;  ///< null on one rank
  uint64_t seed_;
  /// Linear layers may compute what rows have in common once. Not where each row's gradient is clamped, for which sums
  /// of several come too late.
  bool numbers_ids_;
  int64_t accumulated_steps_ = 0;
};

}  // namespace anneal::train
