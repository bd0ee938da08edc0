#include "worker/config/head_rules.h"

#include "worker/config/source_map.h"

namespace anneal::config {
namespace {

using tzrec::protos::LossConfig;
using tzrec::protos::MetricConfig;

class HeadRules {
 public:
  HeadRules(const HeadFields& head, const std::function<void(const std::string&, const std::string&)>& fail,
            const std::function<std::string(const std::string&)>& sparse_fault)
      : head_(head), fail_(fail), sparse_fault_(sparse_fault) {}

  void Run() {
    if (head_.losses.empty()) fail_(head_.path, "losses is empty");
    for (int i = 0; i < head_.losses.size(); ++i) Loss(head_.losses[i], At("losses", i));
    for (int i = 0; i < head_.metrics.size(); ++i) {
      const auto& metric = head_.metrics[i];
      const std::string path = At("metrics", i);
      if (metric.metric_case() == MetricConfig::METRIC_NOT_SET) fail_(path, "names no metric");
      Metric(metric, path);
      OnlyWhenEvaluating(metric, path);
    }
    for (int i = 0; i < head_.train_metrics.size(); ++i) {
      const auto& metric = head_.train_metrics[i];
      const std::string path = At("train_metrics", i);
      if (metric.metric_case() == tzrec::protos::TrainMetricConfig::METRIC_NOT_SET) fail_(path, "names no metric");
      Metric(metric, path);
      CheckDecay(metric, path, fail_);
    }
  }

 private:
  std::string At(const char* list, int i) const { return Item(head_.path + "." + list, i); }

  void Loss(const LossConfig& loss, const std::string& path) {
    switch (loss.loss_case()) {
      case LossConfig::kBinaryCrossEntropy:
        Classes(head_.num_class == 1, "binary_cross_entropy", "1", path);
        Smoothing(loss.binary_cross_entropy().label_smoothing(), path + ".binary_cross_entropy");
        probabilities_ = true;
        break;
      case LossConfig::kBinaryFocalLoss:
        Classes(head_.num_class == 1, "binary_focal_loss", "1", path);
        if (!(loss.binary_focal_loss().gamma() >= 0)) fail_(path + ".binary_focal_loss.gamma", "must be at least 0");
        if (!(loss.binary_focal_loss().alpha() > 0 && loss.binary_focal_loss().alpha() < 1)) {
          fail_(path + ".binary_focal_loss.alpha", "must be more than 0 and less than 1");
        }
        probabilities_ = true;
        break;
      case LossConfig::kSoftmaxCrossEntropy:
        Classes(head_.num_class > 1, "softmax_cross_entropy", "more than 1", path);
        Smoothing(loss.softmax_cross_entropy().label_smoothing(), path + ".softmax_cross_entropy");
        probabilities_ = true;
        break;
      case LossConfig::kJrcLoss:
        Classes(head_.num_class == 2, "jrc_loss", "2", path);
        Sparse(loss.jrc_loss().session_name(), path + ".jrc_loss.session_name");
        if (!(loss.jrc_loss().alpha() >= 0 && loss.jrc_loss().alpha() <= 1))
          fail_(path + ".jrc_loss.alpha", "must be in [0, 1]");
        probabilities_ = true;
        break;
      case LossConfig::kL2Loss:
        Classes(head_.num_class == 1, "l2_loss", "1", path);
        value_ = true;
        break;
      case LossConfig::LOSS_NOT_SET:
        fail_(path, loss.sid_loss_case() == LossConfig::SID_LOSS_NOT_SET
                        ? "names no loss"
                        : "is for models of semantic ids, not for this one");
        break;
    }
  }

  /// Rules of the metrics that evaluation and training share.
  template <typename Config>
  void Metric(const Config& metric, const std::string& path) {
    if (metric.has_auc()) {
      Probability("auc", path);
      Thresholds(metric.auc().thresholds(), path + ".auc.thresholds");
    }
    if (metric.has_accuracy()) {
      Needs(probabilities_, "accuracy", "a loss of classes", path);
      const uint32_t k = metric.accuracy().top_k();
      if (k == 0 || (head_.num_class > 1 && k > head_.num_class)) {
        fail_(path + ".accuracy.top_k",
              std::to_string(k) + " is not in 1 .. num_class " + std::to_string(head_.num_class));
      }
    }
    if (metric.has_mean_absolute_error()) Needs(value_, "mean_absolute_error", "l2_loss", path);
    if (metric.has_mean_squared_error()) Needs(value_, "mean_squared_error", "l2_loss", path);
    if (metric.has_xauc()) {
      Needs(value_, "xauc", "l2_loss", path);
      if (!(metric.xauc().sample_ratio() > 0 && metric.xauc().sample_ratio() <= 1)) {
        fail_(path + ".xauc.sample_ratio", "must be more than 0 and at most 1");
      }
    }
    if (metric.has_recall_at_k())
      fail_(path + ".recall_at_k", "is a metric of match models; this model makes no similarities");
  }

  void OnlyWhenEvaluating(const MetricConfig& metric, const std::string& path) {
    if (metric.has_multiclass_auc()) {
      Needs(probabilities_, "multiclass_auc", "a loss of classes", path);
      Classes(head_.num_class > 1, "multiclass_auc", "more than 1", path);
      Thresholds(metric.multiclass_auc().thresholds(), path + ".multiclass_auc.thresholds");
      const std::string& average = metric.multiclass_auc().average();
      if (average != "macro" && average != "weighted") {
        fail_(path + ".multiclass_auc.average", "'" + average + "' is not macro or weighted");
      }
    }
    if (metric.has_grouped_auc()) {
      Probability("grouped_auc", path);
      Sparse(metric.grouped_auc().grouping_key(), path + ".grouped_auc.grouping_key");
    }
    if (metric.has_grouped_xauc()) {
      Needs(value_, "grouped_xauc", "l2_loss", path);
      Sparse(metric.grouped_xauc().grouping_key(), path + ".grouped_xauc.grouping_key");
      if (metric.grouped_xauc().max_pairs_per_group() == 0)
        fail_(path + ".grouped_xauc.max_pairs_per_group", "must be at least 1");
    }
    if (metric.has_normalized_entropy()) {
      Needs(probabilities_, "normalized_entropy", "a loss of classes", path);
      Classes(head_.num_class == 1, "normalized_entropy", "1", path);
      if (!(metric.normalized_entropy().eta() > 0 && metric.normalized_entropy().eta() < 0.5)) {
        fail_(path + ".normalized_entropy.eta", "must be more than 0 and less than 0.5");
      }
    }
  }

  void Classes(bool good, const std::string& name, const std::string& needed, const std::string& path) {
    if (!good) fail_(path, name + " needs num_class " + needed + ", it is " + std::to_string(head_.num_class));
  }
  void Needs(bool good, const std::string& name, const std::string& loss, const std::string& path) {
    if (!good) fail_(path, name + " needs " + loss + " on the same head");
  }
  void Probability(const std::string& name, const std::string& path) {
    Needs(probabilities_, name, "a loss of classes", path);
    Classes(head_.num_class == 1 || head_.num_class == 2, name, "1 or 2", path);
  }
  void Thresholds(uint32_t thresholds, const std::string& path) {
    if (thresholds < 2 || thresholds > 1000000) fail_(path, "must be in 2 .. 1000000");
  }
  void Smoothing(float smoothing, const std::string& path) {
    if (!(smoothing >= 0 && smoothing < 1)) fail_(path + ".label_smoothing", "must be at least 0 and less than 1");
  }
  void Sparse(const std::string& feature, const std::string& path) {
    const std::string fault = sparse_fault_(feature);
    if (!fault.empty()) fail_(path, fault);
  }

  const HeadFields& head_;
  const std::function<void(const std::string&, const std::string&)>& fail_;
  const std::function<std::string(const std::string&)>& sparse_fault_;
  bool probabilities_ = false, value_ = false;  ///< what the head's losses make: probs, y
};

}  // namespace

void CheckDecay(const tzrec::protos::TrainMetricConfig& metric, const std::string& path,
                const std::function<void(const std::string&, const std::string&)>& fail) {
  if (!(metric.decay_rate() >= 0 && metric.decay_rate() <= 1)) fail(path + ".decay_rate", "must be in [0, 1]");
  if (metric.decay_step() == 0) fail(path + ".decay_step", "must be at least 1");
}

void CheckHead(const HeadFields& head, const std::function<void(const std::string&, const std::string&)>& fail,
               const std::function<std::string(const std::string&)>& sparse_fault) {
  HeadRules(head, fail, sparse_fault).Run();
}

}  // namespace anneal::config
