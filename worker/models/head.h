// A prediction head: what a model's output is called, and what it is trained and judged by (parity/models.md 6-8).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tzrec/loss.pb.h"
#include "tzrec/metric.pb.h"

namespace anneal::models {

/// A single-task model has one head with an empty suffix, a multi-task model one per tower.
struct Head {
  /// What a row is trained and judged by.
  enum class Truth {
    kLabel,   ///< the label column
    kOwnRow,  ///< the number of the row: row i belongs to column i of the output
    kFirst,   ///< 0: every row belongs to the first column
    kNone,    ///< nothing: losses and metrics are the model's own
  };

  std::string suffix;       ///< "" or "_<tower_name>": ends the names of its predictions, losses and metrics
  std::string label;        ///< label column, of a ranker of candidates one of lists
  uint64_t label_bits = 0;  ///< not 0: a label counts as 1 where it has any of these bits, else as 0
  Truth truth = Truth::kLabel;
  /// The output itself is the prediction and is called so: "similarity" [B, items] of a match model, whose columns are
  /// what softmax_cross_entropy has for classes, or a tower's vector [B, D] or [B, K, D], or `codes`. Empty: the losses
  /// name the predictions.
  std::string output;
  int num_class = 1;  ///< not of a named output
  std::vector<tzrec::protos::LossConfig> losses;
  std::vector<tzrec::protos::MetricConfig> metrics;
  std::vector<tzrec::protos::TrainMetricConfig> train_metrics;
  /// parity/models.md 7.3: weighted reduction is on when one of these is present in the tower.
  bool weighted = false;
  double weight = 1.0;
  std::string sample_weight;    ///< column, or empty
  std::string space_indicator;  ///< label column, or empty
  double in_space_weight = 1.0, out_space_weight = 1.0;
  /// Of a model with an output for each of that many domains, [B, domains], of which a row's own counts (num_class is
  /// 1): names of predictions end with "_<domain>" as well. 0: one output, whatever the row.
  int domains = 0;
  std::string domain_label;      ///< label column: a row's domain, from 0
  double pareto_min_weight = 0;  ///< least weight of each of its losses (parity/models.md 7.6)
  /// Makes no predictions outside of training: evaluation has its metrics and losses, of no rows.
  bool only_in_training = false;
};

/// What exports call the number of candidates of each row.
inline constexpr char kCandidatesOfRows[] = "__TARGET_REPEAT_INTERLEAVE_KEY__";

/// Prediction tensors by name, in the order of the heads: [B], or [B, num_class] of several classes, or a named output;
/// float32, of the autocast type, or int64. Of a ranker of candidates B is the number of those, one row's after the
/// other.
struct Predictions {
  std::vector<std::pair<std::string, at::Tensor>> values;
  const at::Tensor& at(const std::string& name) const;  ///< throws ConfigError
  std::vector<at::Tensor> outputs;                      ///< what Model::Forward returned
  bool in_training = false;                             ///< made by a model in training
  /// In training: losses that forward passes make, by name (GroupDropouts).
  std::vector<std::pair<std::string, at::Tensor>> penalties;
  at::Tensor candidates;  ///< [rows] int64: how many each row has; undefined: no ranker
};

/// What losses are computed from besides the predictions; B as in those.
struct Targets {
  struct OfHead {
    at::Tensor label;                  ///< [B] float32, undefined where truth is kNone
    at::Tensor weights;                ///< [B] float32, undefined when the head is not weighted
    at::Tensor domain;                 ///< [B] int64, undefined when the head has no domains
    std::vector<at::Tensor> sessions;  ///< per loss [B] int64: losses::Input's, undefined where it needs none
  };
  std::vector<OfHead> heads;
  double factor = 1;  ///< every loss is multiplied by it

  /// The same with `change` applied to every tensor that is defined.
  Targets Map(const std::function<at::Tensor(const at::Tensor&)>& change) const;
};

/// Names of a head's predictions: the named output, or of every loss those that it trains, each once: logits, probs,
/// probs1 or y; with the suffix; domain after domain.
std::vector<std::string> PredictionNames(const Head& head);

/// Appends the predictions made from a model's output [B, num_class], [B, domains], or a named output.
void Predict(const Head& head, const at::Tensor& output, Predictions& predictions);

/// The prediction `kind` (logits, probs, probs1, y, or the named output) that the head is judged by: with domains [B],
/// each row's from that of its domain, [B] int64.
at::Tensor JudgedPrediction(const Head& head, const std::string& kind, const Predictions& predictions,
                            const at::Tensor& domain);

/// What a loss of the head is computed from: logits, y or the named output.
at::Tensor LossInput(const Head& head, const tzrec::protos::LossConfig& loss, const Predictions& predictions,
                     const at::Tensor& domain);

}  // namespace anneal::models
