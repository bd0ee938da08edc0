// A model for inference: what eval, predict and export run. The trainer evaluates its live model through the same
// class, so all of them predict alike.
#pragma once

#include <memory>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/features/feature_set.h"
#include "worker/models/network.h"

namespace anneal::eval {

struct LoadOptions {
  bool use_dense_ema = false;  ///< dense parameters are the averages (UsesDenseEma)
  bool complete = false;       ///< a parameter that the checkpoint lacks is an error, not a warning
  std::string tower;           ///< Network's
};

class TrainedModel {
 public:
  /// Builds the model of `config` and restores it from `checkpoint` (a model.ckpt-<step> folder, a model_dir whose
  /// newest checkpoint is taken, or a bare .safetensors file). State that the checkpoint lacks stays freshly
  /// initialised with the warning `Skip restore state [<name>]`. Throws ConfigError when there is no checkpoint.
  static std::unique_ptr<TrainedModel> Load(const tzrec::protos::EasyRecConfig& config, const std::string& checkpoint,
                                            dist::ProcessGroup& group, int threads, const LoadOptions& options = {});

  /// Predictions of one batch without gradients, model in inference mode. With several ranks a collective.
  models::Predictions Predict(const data::Batch& batch);

  const tzrec::protos::EasyRecConfig& config() const { return config_; }
  const features::FeatureSet& features() const { return features_; }
  models::Network& network() { return network_; }
  embedding::ShardedEmbedding& embedding() { return *embedding_; }
  int64_t step() const { return step_; }                         ///< of the checkpoint; 0 for a bare file
  const std::string& checkpoint() const { return checkpoint_; }  ///< the folder or file restored

 private:
  TrainedModel(const tzrec::protos::EasyRecConfig& config, dist::ProcessGroup& group, int threads,
               const std::string& tower);

  tzrec::protos::EasyRecConfig config_;
  features::FeatureSet features_;
  models::Network network_;
  std::unique_ptr<embedding::ShardedEmbedding> embedding_;
  int64_t step_ = 0;
  std::string checkpoint_;
};

/// Makes features and network of a config and throws them away: ConfigError says why they cannot be. Warns as
/// TellOfUnreadGroups.
void BuildOnce(const tzrec::protos::EasyRecConfig& config);

/// Warns of feature groups that no tower of a match model reads.
void TellOfUnreadGroups(const tzrec::protos::ModelConfig& model);

/// Warns, once in a process, when ids were outside of their tables, which are looked up as row 0.
void TellOfIdsOutside(const embedding::ShardedEmbedding& tables);

/// A forward pass of any network and tables in inference mode: no gradients, dropout off, batch-norm statistics used.
/// Predictions are on the CPU wherever they were computed, float32 if they are no integers.
models::Predictions Infer(models::Network& network, embedding::ShardedEmbedding& tables, const data::Batch& batch);

/// What the network reads of a batch whose ids were looked up; without gradients.
models::NetworkInput MakeInput(const models::EmbeddingPlan& plan, const data::Batch& batch,
                               const embedding::LookedUp& found);

/// The items that a sampler appended to a batch.
models::SampledItems SampledOf(const data::Batch& batch);

/// A batch's dense features as a [rows, dense_width] float32 tensor that shares the batch's memory.
at::Tensor DenseTensor(const data::Batch& batch, int64_t dense_width);

}  // namespace anneal::eval
