#include "worker/eval/evaluator.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/eval/trained_model.h"
#include "worker/metrics/metric.h"
#include "worker/train/progress/console_progress.h"
#include "worker/train/progress/log.h"

namespace anneal::eval {
namespace {

std::span<const float> Span(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

/// The metrics of every head, and the means of its losses.
class MetricSet {
 public:
  explicit MetricSet(models::Network& network) : network_(network) {
    for (const auto& head : network.model().heads()) {
      for (const auto& config : head.metrics) {
        metrics_.push_back({metrics::Name(config) + head.suffix, "probs" + head.suffix, network.LabelIndex(head.label),
                            metrics::MakeMetric(config)});
      }
    }
  }

  void Update(const models::Predictions& predictions, const models::Losses& losses, const data::Batch& batch) {
    std::map<int, at::Tensor> labels;
    for (auto& entry : metrics_) {
      at::Tensor& label = labels[entry.label];
      if (!label.defined()) label = models::LabelTensor(batch.labels.at(entry.label)).contiguous();
      entry.metric->Update(Span(predictions.at(entry.prediction).contiguous()), Span(label));
    }
    const float rows = static_cast<float>(batch.rows);
    for (const auto& [name, loss] : losses) {
      const float value = loss.item<float>();
      LossMean(name).Update({&value, 1}, {&rows, 1});
    }
  }

  /// Adds the state of all ranks. Ranks that saw no batch have to know the losses' names all the same.
  void Reduce(dist::ProcessGroup& group, const std::vector<std::string>& loss_names) {
    for (const auto& name : loss_names) LossMean(name);
    if (group.world_size() == 1) return;
    auto reduce = [&group](metrics::Metric& metric) {
      auto& state = metric.state();
      group.AllReduceSum(at::from_blob(state.data(), {static_cast<int64_t>(state.size())}, at::kDouble));
    };
    for (auto& entry : metrics_) reduce(*entry.metric);
    for (auto& [name, mean] : losses_) reduce(mean);
  }

  Metrics Compute() const {
    Metrics all;
    for (const auto& entry : metrics_) all.emplace_back(entry.name, entry.metric->Compute());
    for (const auto& [name, mean] : losses_) all.emplace_back(name, mean.Compute());
    return all;
  }

 private:
  struct Entry {
    std::string name, prediction;
    int label;
    std::unique_ptr<metrics::Metric> metric;
  };

  metrics::WeightedMean& LossMean(const std::string& name) {
    for (auto& [known, mean] : losses_) {
      if (known == name) return mean;
    }
    losses_.emplace_back(name, metrics::WeightedMean());
    return losses_.back().second;
  }

  models::Network& network_;
  std::vector<Entry> metrics_;
  std::vector<std::pair<std::string, metrics::WeightedMean>> losses_;
};

}  // namespace

Metrics Evaluate(models::Network& network, embedding::ShardedEmbedding& tables, data::BatchStream& stream,
                 dist::ProcessGroup& group, const EvaluationSettings& settings) {
  MetricSet metrics(network);
  train::ConsoleProgress console(settings.log, 0);
  const data::Batch nothing;
  int64_t batches = 0, rows = 0;
  bool open = true;
  while (settings.num_steps <= 0 || batches < settings.num_steps) {
    std::unique_ptr<data::Batch> batch = open ? stream.Next() : nullptr;
    open = batch != nullptr;
    const data::Batch& current = batch ? *batch : nothing;
    const models::Predictions predictions = Infer(network, tables, current);
    if (tables.global_rows() == 0) break;
    if (batch) {
      const c10::AutoGradMode no_grad(false);
      metrics.Update(predictions, network.ComputeLosses(predictions, current), current);
      rows += current.rows;
      stream.Recycle(std::move(batch));
    }
    ++batches;
    settings.progress(batches, rows);
    if (settings.log_step_count_steps > 0 && batches % settings.log_step_count_steps == 0 && console.Due(batches)) {
      console.Print("Evaluating" + (settings.description.empty() ? "" : " " + settings.description), batches, "");
    }
  }
  metrics.Reduce(group, network.loss_names());
  return metrics.Compute();
}

std::string ResultLine(const Metrics& metrics, const std::string& description) {
  std::string line = "Eval Result" + (description.empty() ? "" : " " + description) + ":";
  for (const auto& [name, value] : metrics) {
    char text[64];
    std::snprintf(text, sizeof text, "%.6f", value);
    line += " " + name + ":" + text;
  }
  return line;
}

void AppendResult(const std::string& path, int64_t step, const Metrics& metrics) {
  // Written by hand, as Python's json writes it: with blanks, and NaN where a metric has no value.
  std::string text = "{\"global_step\": " + (step >= 0 ? std::to_string(step) : "null");
  const std::map<std::string, double> sorted(metrics.begin(), metrics.end());
  for (const auto& [name, value] : sorted) {
    text += ", " + nlohmann::json(name).dump() + ": " + (std::isfinite(value) ? nlohmann::json(value).dump() : "NaN");
  }
  text += "}";
  std::ofstream out(path, std::ios::app);
  out << text << "\n";
  if (!out.flush()) LogWarning("cannot write " + path);
}

}  // namespace anneal::eval
