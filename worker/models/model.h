// A model's dense part: feature groups in, one output per head out. Models know nothing about files, ranks, devices.
//
// A new model is one file that derives from Model and one REGISTER line in registry.cpp.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tzrec/model.pb.h"
#include "tzrec/tower.pb.h"
#include "worker/models/embedding_group.h"
#include "worker/nn/module.h"

namespace anneal::models {

/// Feature groups of a batch by name: [B, Group::width] float32.
using Groups = std::map<std::string, at::Tensor>;

/// One prediction head: a single-task model has one with an empty suffix, a multi-task model one per tower.
struct Head {
  std::string suffix;  ///< "" or "_<tower_name>": ends the names of its predictions, losses and metrics
  std::string label;   ///< label column
  int num_class = 1;
  std::vector<tzrec::protos::LossConfig> losses;
  std::vector<tzrec::protos::MetricConfig> metrics;
  /// parity/models.md 7.3: weighted reduction is on when one of these is present in the tower.
  bool weighted = false;
  double weight = 1.0;
  std::string sample_weight;    ///< column, or empty
  std::string space_indicator;  ///< label column, or empty
  double in_space_weight = 1.0, out_space_weight = 1.0;
};

class Model : public nn::Module {
 public:
  /// One [B, num_class] float32 output (logits) per head, in the order of heads().
  virtual std::vector<at::Tensor> Forward(const Groups& groups) = 0;
  const std::vector<Head>& heads() const { return heads_; }

 protected:
  std::vector<Head> heads_;
};

/// What a model is built from. The references outlive the model's construction only.
struct ModelInput {
  const tzrec::protos::ModelConfig& config;
  const EmbeddingPlan& plan;
  std::vector<std::string> label_fields;
  std::vector<std::string> sample_weight_fields;

  /// The group of that name; throws ConfigError when the config lacks it.
  const Group& RequireGroup(const std::string& name) const;
  /// Head of a single-task model: losses, metrics and num_class of model_config, the first label field.
  Head SingleHead() const;
};

/// Builds the model that model_config's oneof names; "model_config.<name>: not supported yet" otherwise.
std::unique_ptr<Model> MakeModel(const ModelInput& input);

}  // namespace anneal::models
