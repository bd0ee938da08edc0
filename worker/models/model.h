// A model's dense part: feature groups in, one output per head out. Models know nothing about files, ranks, devices.
//
// A new model is one file that derives from Model and one entry in registry.cpp.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tzrec/model.pb.h"
#include "worker/models/embedding_group.h"
#include "worker/models/head.h"
#include "worker/nn/module.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::models {

/// The items that a sampler drew for a batch of B rows: the last rows of item-side groups, behind the B rows' own.
struct SampledItems {
  int64_t count = 0;
  /// [H, 2] int64 on the host, of the last H of them (hard negatives): the row that has it, and its number within that
  /// row; undefined when there are none.
  at::Tensor hard;
};

/// Feature groups of a batch of B rows by name.
struct Groups {
  std::map<std::string, at::Tensor> plain;        ///< DEEP and WIDE: [B, Group::width] float32
  std::map<std::string, nn::Sequence> sequences;  ///< SEQUENCE and JAGGED_SEQUENCE
  SampledItems sampled;  ///< B + sampled.count rows have the groups of EmbeddingPlan that are item_side

  const at::Tensor& at(const std::string& name) const { return plain.at(name); }
  const nn::Sequence& sequence(const std::string& name) const { return sequences.at(name); }
};

class Model : public nn::Module {
 public:
  /// One [B, num_class] float32 output (logits), or named output, per head, in the order of heads(); undefined outside
  /// of training where the head is only_in_training. What else OwnLosses, in training, and OwnMetrics read follows. Of
  /// a ranker of candidates B is their number.
  virtual std::vector<at::Tensor> Forward(const Groups& groups) = 0;
  const std::vector<Head>& heads() const { return heads_; }

  /// The JAGGED_SEQUENCE group whose elements the outputs belong to; empty: to the rows.
  const std::string& candidates() const { return candidates_; }
  /// Ranks learn in proportion to the number of their labels (parity/models.md 7.4).
  bool weighs_ranks() const { return weighs_ranks_; }

  /// Names of losses besides those of the heads, computed in training only.
  const std::vector<std::string>& own_loss_names() const { return own_loss_names_; }
  /// Their values, scalars, from what Forward returned.
  virtual std::vector<at::Tensor> OwnLosses(const std::vector<at::Tensor>& outputs, const Targets& targets) const;

  /// Names of metrics that the model has whatever the config says.
  const std::vector<std::string>& own_metric_names() const { return own_metric_names_; }
  /// What a batch adds to a mean over batches: the value is the sum of sums over the sum of weights.
  struct Mean {
    double sum = 0, weight = 0;
  };
  /// Of those metrics in a batch, from what Forward returned outside of training.
  virtual std::vector<Mean> OwnMetrics(const std::vector<at::Tensor>& outputs) const;

 protected:
  std::vector<Head> heads_;
  std::vector<std::string> own_loss_names_, own_metric_names_;
  std::string candidates_;
  bool weighs_ranks_ = false;
};

/// What a model is built from. The references outlive the model's construction only.
struct ModelInput {
  const tzrec::protos::ModelConfig& config;
  const EmbeddingPlan& plan;
  std::vector<std::string> label_fields;
  std::vector<std::string> sample_weight_fields;
  std::string tower;  ///< the part to make: a match model's tower, a TDM's kItemEmbedding; empty: the whole model

  /// The DEEP or WIDE group of that name; throws ConfigError when the config lacks it.
  const Group& RequireGroup(const std::string& name) const;
  /// The group that the config declares first; throws ConfigError when that is no DEEP or WIDE one.
  const Group& FirstGroup() const;
  /// The SEQUENCE group of that name; throws ConfigError when the config lacks it.
  const SequenceGroup& RequireSequenceGroup(const std::string& name) const;
  /// The JAGGED_SEQUENCE group of that name, which has a sequence only; throws ConfigError when the config lacks it.
  const SequenceGroup& RequireJaggedGroup(const std::string& name) const;
  /// Head of a single-task model: losses, metrics and num_class of model_config, the first label field.
  Head SingleHead() const;
};

/// Builds the model that model_config's oneof names; "model_config.<name>: not supported yet" otherwise.
std::unique_ptr<Model> MakeModel(const ModelInput& input);

}  // namespace anneal::models
