// From looked-up embeddings to predictions and losses: the model with its heads, as trainer, evaluator, predictor
// and export all use it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/data/batch.h"
#include "worker/models/dense_embeddings.h"
#include "worker/models/group_dropouts.h"
#include "worker/models/group_encoders.h"
#include "worker/models/model.h"
#include "worker/models/repeated_ids.h"
#include "worker/nn/autocast.h"

namespace anneal::models {

/// Losses by name ("binary_cross_entropy_ctr") in the order of the heads, then the model's own, then penalties.
using Losses = std::vector<std::pair<std::string, at::Tensor>>;

/// What a batch is to the network, of B rows (those of sampled items with them) and on one device.
struct NetworkInput {
  at::Tensor pooled;                    ///< [B, plan().pooled_width] float32
  at::Tensor dense;                     ///< [B, plan().dense_width] float32
  std::vector<nn::Sequence> sequences;  ///< of the plan's sequence groups
  SampledItems sampled;                 ///< of the B rows the last ones
  /// What is known of the batch's ids, or null. With it the pooled gradient of ids that several rows have may be in the
  /// first of them, all of it.
  std::shared_ptr<const RepeatedIds> repeated;
};

class Network {
 public:
  /// Everything from the config; throws ConfigError. `tower`: this part alone (ModelInput::tower), whose vectors are
  /// the predictions; it has no losses.
  Network(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
          const std::string& tower = "");

  const EmbeddingPlan& plan() const { return plan_; }
  const std::vector<Head>& heads() const { return model_->heads(); }
  const std::vector<std::string>& label_fields() const { return label_fields_; }

  /// Computes forward passes and losses under autocast from now on; nullopt: in float32.
  void set_autocast(std::optional<c10::ScalarType> type) { autocast_ = type; }

  /// Names of the predictions outside of training, without running anything.
  std::vector<std::string> prediction_names() const;

  /// Names of the heads' losses.
  std::vector<std::string> loss_names() const;
  /// Names of the losses in the order in which ComputeLosses gives them in training: those, the model's own, and the
  /// penalties of groups' dropout.
  std::vector<std::string> training_loss_names() const;

  /// Names of the model's own metrics.
  const std::vector<std::string>& own_metric_names() const { return model_->own_metric_names(); }
  /// What a batch adds to them, of predictions that were not made in training.
  std::vector<Model::Mean> OwnMetrics(const Predictions& predictions) const {
    return model_->OwnMetrics(predictions.outputs);
  }

  Predictions Forward(const NetworkInput& input);
  /// On the host; may share memory with the batch. Throws DataError for a label that is no class. Factor 1.
  Targets MakeTargets(const data::Batch& batch) const;
  /// The least weight of each of loss_names() where the weights of losses are found anew in every step
  /// (use_pareto_loss_weight, parity/models.md 7.6); empty where they are just added up.
  std::vector<double> pareto_min_weights() const;
  /// Mean losses of the batch, weighted as parity/models.md 7.2-7.3, the model's own, and penalties. Of predictions
  /// that were not made in training only those of the heads that made them. `targets` where the predictions are.
  Losses ComputeLosses(const Predictions& predictions, const Targets& targets) const;

  /// Trainable dense parameters and buffers under their complete state names ("model.deep_mlp...").
  std::vector<nn::NamedTensor> DenseParameters() const;
  std::vector<nn::NamedTensor> Buffers() const;
  /// The parameters as checkpoints hold them (DenseEmbeddings::StoredParameters); they share memory.
  std::vector<nn::NamedTensor> StoredParameters() const;

  /// See nn::Module.
  void To(at::Device device);
  void Train(bool on = true);
  bool training() const { return model_->training(); }

  /// Whether predictions are of candidates (Predictions::candidates).
  bool ranks_candidates() const { return !model_->candidates().empty(); }
  /// Whether Targets::factor has to be a rank's number of labels by the mean over ranks (Model::weighs_ranks).
  bool weighs_ranks() const { return model_->weighs_ranks(); }

  /// Index of a label column in Batch::labels.
  int LabelIndex(const std::string& name) const;
  /// Index of a sparse feature in Batch::sparse; throws ConfigError when there is none, naming `field`, which asked.
  int SparseIndex(const std::string& feature, const std::string& field) const;

 private:
  /// Those of the dense embeddings, then all others.
  std::vector<nn::NamedTensor> WithOthers(std::vector<nn::NamedTensor> parameters) const;

  EmbeddingPlan plan_;
  std::vector<std::string> label_fields_, sample_weight_fields_;
  std::map<std::string, int> sparse_index_;  ///< feature name -> index in Batch::sparse
  DenseEmbeddings dense_embeddings_;
  GroupEncoders encoders_;
  GroupDropouts dropouts_;
  std::unique_ptr<Model> model_;
  const bool pareto_;
  std::optional<c10::ScalarType> autocast_;
};

/// A label column, of lists all their values, as float32 [B]; shares memory with the batch where it can.
at::Tensor LabelTensor(const data::Label& label);

/// Labels of a batch in every column: one a row, or one a candidate.
int64_t CountLabels(const data::Batch& batch);

/// What the rows of a head are trained and judged by (Head::Truth), float32 [B]; `column` is that of the label.
at::Tensor TruthOf(const Head& head, const data::Label& column);

/// A row's domain of a head that has them, [B] int64, shares memory with the label column `column`. Throws DataError
/// where that holds anything but the numbers of domains.
at::Tensor DomainOf(const Head& head, const data::Label& column);

/// First id of every row of a sparse feature, 0 where the row has none: [B] int64. Where labels are lists, each row's
/// id once for each of its labels.
at::Tensor FirstIds(const data::Batch& batch, int feature);

}  // namespace anneal::models
