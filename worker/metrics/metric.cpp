#include "worker/metrics/metric.h"

#include "worker/config/error.h"
#include "worker/metrics/auc.h"
#include "worker/metrics/pair_ranking.h"
#include "worker/metrics/row_mean.h"

namespace anneal::metrics {

using tzrec::protos::MetricConfig;

std::string Name(const MetricConfig& config) {
  const auto* oneof = config.GetDescriptor()->FindOneofByName("metric");
  const auto* field = config.GetReflection()->GetOneofFieldDescriptor(config, oneof);
  if (!field) throw ConfigError("metrics: an entry names no metric");
  if (config.has_recall_at_k()) return "recall@" + std::to_string(config.recall_at_k().top_k());
  return field->name();
}

MetricConfig WindowMetric(const tzrec::protos::TrainMetricConfig& config) {
  MetricConfig window;
  if (config.has_auc()) *window.mutable_auc() = config.auc();
  if (config.has_recall_at_k()) *window.mutable_recall_at_k() = config.recall_at_k();
  if (config.has_mean_absolute_error()) *window.mutable_mean_absolute_error() = config.mean_absolute_error();
  if (config.has_mean_squared_error()) *window.mutable_mean_squared_error() = config.mean_squared_error();
  if (config.has_accuracy()) *window.mutable_accuracy() = config.accuracy();
  if (config.has_xauc()) *window.mutable_xauc() = config.xauc();
  return window;
}

std::string PredictionOf(const MetricConfig& config, int num_class) {
  switch (config.metric_case()) {
    case MetricConfig::kAuc:
    case MetricConfig::kGroupedAuc:
      return num_class > 1 ? "probs1" : "probs";
    case MetricConfig::kMeanAbsoluteError:
    case MetricConfig::kMeanSquaredError:
    case MetricConfig::kXauc:
    case MetricConfig::kGroupedXauc:
      return "y";
    case MetricConfig::kRecallAtK:
      return "similarity";
    default:
      return "probs";
  }
}

std::string GroupingKey(const MetricConfig& config) {
  if (config.has_grouped_auc()) return config.grouped_auc().grouping_key();
  if (config.has_grouped_xauc()) return config.grouped_xauc().grouping_key();
  return "";
}

std::unique_ptr<Metric> MakeMetric(const MetricConfig& config, int num_class) {
  switch (config.metric_case()) {
    case MetricConfig::kAuc:
      return std::make_unique<Auc>(static_cast<int>(config.auc().thresholds()));
    case MetricConfig::kMulticlassAuc:
      return std::make_unique<MulticlassAuc>(static_cast<int>(config.multiclass_auc().thresholds()), num_class,
                                             config.multiclass_auc().average() == "weighted");
    case MetricConfig::kMeanAbsoluteError:
      return std::make_unique<MeanAbsoluteError>();
    case MetricConfig::kMeanSquaredError:
      return std::make_unique<MeanSquaredError>();
    case MetricConfig::kAccuracy:
      if (num_class > 1) return std::make_unique<TopK>(static_cast<int>(config.accuracy().top_k()));
      return std::make_unique<BinaryAccuracy>(config.accuracy().threshold());
    case MetricConfig::kRecallAtK:
      return std::make_unique<TopK>(static_cast<int>(config.recall_at_k().top_k()));
    case MetricConfig::kGroupedAuc:
      return std::make_unique<GroupedAuc>();
    case MetricConfig::kXauc:
      return std::make_unique<Xauc>(config.xauc().in_batch());
    case MetricConfig::kGroupedXauc:
      return std::make_unique<GroupedXauc>();
    case MetricConfig::kNormalizedEntropy:
      return std::make_unique<NormalizedEntropy>(config.normalized_entropy().eta());
    case MetricConfig::METRIC_NOT_SET:
      break;
  }
  throw ConfigError("metrics: an entry names no metric");
}

}  // namespace anneal::metrics
