// Everything that is trained and everything a checkpoint has to hold of it: tables, dense parameters, optimizers,
// schedules, averages, loss scale, accumulated gradients,
// train metrics. Kept whole, a resumed run goes on bit for bit.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/eval/model_plan.h"
#include "worker/eval/model_state.h"
#include "worker/features/feature_set.h"
#include "worker/models/network.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/engine.h"
#include "worker/train/learning_rates.h"
#include "worker/train/train_metrics.h"

namespace anneal::train {

class Learner {
 public:
  /// Builds and initialises model, tables and optimizers.
  Learner(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features, dist::ProcessGroup& group,
          const dist::Topology& topology, const eval::PlanRequest& plan);

  models::Network& network() { return network_; }
  embedding::ShardedEmbedding& tables() { return *tables_; }
  optim::OptimizerGroups& optimizers() { return *optimizers_; }
  Engine& engine() { return *engine_; }
  LearningRates& rates() { return *rates_; }
  TrainMetrics& metrics() { return *metrics_; }

  /// Learning rates as lr_g0, lr_g1, ...: fused tables' groups, the dense optimizer, the part optimizers.
  std::vector<double> RateGroups(const Rates& rates) const;

  /// Everything that Pieces give is as of now, while training goes on. One at a time.
  eval::Freeze Freeze();
  std::vector<checkpoint::Piece> ModelPieces(int rank, const eval::Freeze& freeze);
  std::vector<checkpoint::Piece> OptimizerPieces(int rank, const eval::Freeze& freeze);
  nlohmann::json PlanJson() const;
  /// train_state.json, without what the trainer adds. A collective.
  nlohmann::json StateJson();

  void RestoreModel(const checkpoint::Reader& reader, const eval::NameMap& names);
  /// Averages of dense_optimizer.ema; a checkpoint without them starts them anew, with a warning.
  void RestoreEma(const checkpoint::Reader& reader, const eval::NameMap& names);
  void RestoreOptimizer(const checkpoint::Reader& reader, const eval::NameMap& names);
  /// Schedules, counters, loss scale and accumulated gradients: only when a run is continued.
  void RestoreState(const checkpoint::Reader& reader, int64_t next_step);

 private:
  models::Network network_;
  std::unique_ptr<embedding::ShardedEmbedding> tables_;
  std::unique_ptr<optim::OptimizerGroups> optimizers_;
  std::string sparse_optimizer_;  ///< by name
  std::unique_ptr<LearningRates> rates_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<TrainMetrics> metrics_;
};

/// A seed from the environment (TORCH_MANUAL_SEED, PYTHON_RANDOM_SEED); 0 when unset.
uint64_t SeedOf(const char* variable);

}  // namespace anneal::train
