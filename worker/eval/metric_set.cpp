#include "worker/eval/metric_set.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "worker/dist/vector_tensor.h"

namespace anneal::eval {
namespace {

using metrics::Sample;

std::span<const float> Span(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

/// Samples as rows of two 64-bit words.
at::Tensor Words(std::vector<Sample>& samples) {
  static_assert(sizeof(Sample) == 2 * sizeof(int64_t));
  return at::from_blob(samples.data(), {static_cast<int64_t>(samples.size()), 2}, at::kLong);
}

/// Moves every sample to rank `group mod world_size`.
void ExchangeSamples(std::vector<Sample>& samples, dist::ProcessGroup& group) {
  const int64_t ranks = group.world_size();
  const auto owner = [ranks](const Sample& sample) {
    return static_cast<int64_t>(static_cast<uint64_t>(sample.group) % static_cast<uint64_t>(ranks));
  };
  std::stable_sort(samples.begin(), samples.end(),
                   [&](const Sample& a, const Sample& b) { return owner(a) < owner(b); });
  std::vector<int64_t> sent(ranks), received(ranks);
  for (const Sample& sample : samples) ++sent[owner(sample)];
  const std::vector<int64_t> one_each(ranks, 1);
  group.AllToAll(dist::AsTensor(received), dist::AsTensor(sent), one_each, one_each);
  std::vector<Sample> here(std::accumulate(received.begin(), received.end(), int64_t{0}));
  group.AllToAll(Words(here), Words(samples), received, sent);
  samples = std::move(here);
}

}  // namespace

HeadMetric::HeadMetric(const tzrec::protos::MetricConfig& config, const models::Head& head,
                       const models::Network& network)
    : name_(metrics::Name(config) + head.suffix),
      prediction_(metrics::PredictionOf(config, head.num_class)),
      head_(head),
      label_(network.LabelIndex(head.label)),
      metric_(metrics::MakeMetric(config, head.num_class)) {
  const std::string key = metrics::GroupingKey(config);
  if (head.domains > 0) domain_ = network.LabelIndex(head.domain_label);
  if (!key.empty()) groups_ = network.SparseIndex(key, "grouping_key");
}

void HeadMetric::Update(const models::Predictions& predictions, const data::Batch& batch) {
  const at::Tensor domain = domain_ >= 0 ? models::DomainOf(head_, batch.labels.at(domain_)) : at::Tensor();
  const at::Tensor prediction =
      models::JudgedPrediction(head_, prediction_, predictions, domain).to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor label = models::TruthOf(head_, batch.labels.at(label_)).contiguous();
  metrics::Rows rows{Span(prediction), Span(label), {}};
  at::Tensor groups;
  if (groups_ >= 0) {
    groups = models::FirstIds(batch, groups_);
    rows.groups = {groups.const_data_ptr<int64_t>(), static_cast<size_t>(groups.numel())};
  }
  metric_->Update(rows);
}

void HeadMetric::Reduce(dist::ProcessGroup& group) {
  if (group.world_size() == 1) return metric_->FoldSamples();
  if (metric_->compares_rows()) ExchangeSamples(metric_->samples(), group);
  metric_->FoldSamples();
  group.AllReduceSum(dist::AsTensor(metric_->state()));
}

MetricSet::MetricSet(const models::Network& network) : network_(network), loss_names_(network.loss_names()) {
  for (const auto& head : network.heads()) {
    for (const auto& config : head.metrics) metrics_.emplace_back(config, head, network);
  }
  sums_.assign(2 * (network.own_metric_names().size() + loss_names_.size()), 0.0);
}

void MetricSet::Update(const models::Predictions& predictions, const models::Losses& losses, const data::Batch& batch) {
  for (auto& metric : metrics_) {
    if (!metric.only_in_training()) metric.Update(predictions, batch);
  }
  auto sum = sums_.begin();
  for (const auto& [value, weight] : network_.OwnMetrics(predictions)) *sum++ += value, *sum++ += weight;
  const auto rows = static_cast<double>(models::CountLabels(batch));
  for (const auto& [name, loss] : losses) {
    const auto i = std::find(loss_names_.begin(), loss_names_.end(), name) - loss_names_.begin();
    sum[2 * i] += loss.item<double>() * rows;
    sum[2 * i + 1] += rows;
  }
}

Metrics MetricSet::Compute(dist::ProcessGroup& group) {
  Metrics all;
  for (auto& metric : metrics_) {
    metric.Reduce(group);
    all.emplace_back(metric.name(), metric.metric().Compute());
  }
  group.AllReduceSum(dist::AsTensor(sums_));
  auto sum = sums_.begin();
  for (const auto* names : {&network_.own_metric_names(), &std::as_const(loss_names_)}) {
    for (const std::string& name : *names) {
      all.emplace_back(name, sum[0] / sum[1]);
      sum += 2;
    }
  }
  return all;
}

}  // namespace anneal::eval
