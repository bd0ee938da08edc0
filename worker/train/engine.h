// One training step: lookup, forward, backward, fused table update, dense step. Knows nothing of files or schedules.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/data/batch.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/models/network.h"
#include "worker/optim/dense_optimizer.h"

namespace anneal::train {

/// What a step leaves behind.
struct StepResult {
  bool ended = false;       ///< no rank had a row: the pass is over, nothing was trained
  bool stop_asked = false;  ///< some rank asked to stop: every rank sees this after the same step
  models::Losses losses;    ///< scalars of this rank, detached; empty when this rank had no rows
};

/// Runs on every rank in step: each call is collective. A rank whose data ended takes part with an empty batch until
/// all have ended, so uneven data ends cleanly.
class Engine {
 public:
  Engine(models::Network& network, embedding::ShardedEmbedding& tables, optim::DenseOptimizer& dense_optimizer,
         dist::ProcessGroup& group, uint64_t seed);

  /// `step` seeds dropout, so that a resumed run draws what an undisturbed one would. `ask_stop`: this rank wants to
  /// stop after the step (SIGTERM).
  StepResult Step(const data::Batch& batch, int64_t step, double sparse_rate, double dense_rate, bool ask_stop);

 private:
  /// Averages dense gradients over ranks; carries the stop request along. Returns true when any rank asked.
  bool AverageGradients(bool ask_stop);

  models::Network& network_;
  embedding::ShardedEmbedding& tables_;
  optim::DenseOptimizer& dense_optimizer_;
  dist::ProcessGroup& group_;
  std::vector<nn::NamedTensor> parameters_;
  at::Tensor flat_;  ///< all dense gradients side by side and one number for the stop request
  uint64_t seed_;
};

}  // namespace anneal::train
