// Metrics on random rows, for metrics.py to compute with torchmetrics, as one rank and as two of unequal size; and what
// no library defines, by hand.
#include "worker/metrics/metric.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "worker/config/error.h"
#include "worker/metrics/auc.h"
#include "worker/metrics/pair_ranking.h"

namespace anneal::metrics {
namespace {

using Floats = std::vector<float>;
using nlohmann::json;

std::unique_ptr<Metric> Make(const std::string& text, int classes = 1) {
  tzrec::protos::MetricConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return MakeMetric(config, classes);
}

/// Rows of one case: predictions [rows, columns], labels [rows], groups [rows].
struct Case {
  std::string name, config;
  int columns = 1;
  Floats predictions, labels;
  std::vector<int64_t> groups;

  Rows Slice(size_t begin, size_t end) const {
    return {std::span(predictions).subspan(begin * columns, (end - begin) * columns),
            std::span(labels).subspan(begin, end - begin), std::span(groups).subspan(begin, end - begin)};
  }
  /// Batches of at most 64 rows of [begin, end).
  void Feed(Metric& metric, size_t begin, size_t end) const {
    for (; begin < end; begin += 64) metric.Update(Slice(begin, std::min(begin + 64, end)));
  }
};

double OneRank(const Case& c) {
  const auto metric = Make(c.config, c.columns);
  c.Feed(*metric, 0, c.labels.size());
  metric->FoldSamples();
  return metric->Compute();
}

/// As MetricSet combines ranks: samples to rank group mod 2, folded, the states added.
double TwoRanks(const Case& c) {
  const std::unique_ptr<Metric> ranks[2] = {Make(c.config, c.columns), Make(c.config, c.columns)};
  const size_t cut = c.labels.size() * 3 / 10;
  c.Feed(*ranks[0], 0, cut);
  c.Feed(*ranks[1], cut, c.labels.size());
  std::vector<Sample> all = ranks[0]->samples();
  all.insert(all.end(), ranks[1]->samples().begin(), ranks[1]->samples().end());
  EXPECT_EQ(!all.empty(), ranks[0]->compares_rows());
  for (int rank = 0; rank < 2; ++rank) {
    ranks[rank]->samples().clear();
    for (const Sample& sample : all) {
      if (sample.group % 2 == rank) ranks[rank]->samples().push_back(sample);
    }
    ranks[rank]->FoldSamples();
  }
  for (size_t i = 0; i < ranks[0]->state().size(); ++i) ranks[0]->state()[i] += ranks[1]->state()[i];
  return ranks[0]->Compute();
}

std::vector<Case> RandomCases() {
  std::mt19937 random(11);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::normal_distribution<float> normal;
  constexpr int kRows = 1000;
  std::vector<int64_t> groups(kRows);
  for (auto& group : groups) group = static_cast<int64_t>(random() % 90);
  Case binary{"", "", 1, {}, {}, groups}, classes{"", "", 5, {}, {}, groups}, value{"", "", 1, {}, {}, groups};
  for (int i = 0; i < kRows; ++i) {
    const float p = std::round(uniform(random) * 200) / 200;  // with ties, and values on the thresholds
    binary.predictions.push_back(p);
    binary.labels.push_back(uniform(random) < 0.2f + 0.5f * p ? 1.f : 0.f);
    const auto label = static_cast<size_t>(random() % 5);
    classes.labels.push_back(static_cast<float>(label));
    Floats row(5);
    for (float& x : row) x = std::exp(normal(random));
    row[label] *= 2;
    const float sum = std::accumulate(row.begin(), row.end(), 0.f);
    for (const float x : row) classes.predictions.push_back(x / sum);
    value.labels.push_back(std::round(4 * normal(random)) / 4);
    value.predictions.push_back(value.labels.back() + normal(random));
  }
  const auto named = [](Case c, const std::string& name, const std::string& config) {
    c.name = name;
    c.config = config;
    return c;
  };
  Case absent = named(classes, "multiclass_auc_absent", "multiclass_auc { average: 'macro' }");
  for (float& label : absent.labels) label = label == 3 ? 1.f : label;
  Case similarities = named(classes, "recall_at_k", "recall_at_k { top_k: 2 }");
  similarities.labels.assign(kRows, 0.f);  // column 0 holds the positive
  return {named(binary, "auc", "auc {}"),
          named(binary, "auc_1000", "auc { thresholds: 1000 }"),
          named(binary, "accuracy", "accuracy { threshold: 0.4 }"),
          named(binary, "grouped_auc", "grouped_auc { grouping_key: 'g' }"),
          named(binary, "normalized_entropy", "normalized_entropy {}"),
          named(classes, "multiclass_auc_macro", "multiclass_auc {}"),
          named(classes, "multiclass_auc_weighted", "multiclass_auc { thresholds: 50 average: 'weighted' }"),
          absent,
          named(classes, "accuracy_top1", "accuracy {}"),
          named(classes, "accuracy_top3", "accuracy { top_k: 3 }"),
          similarities,
          named(value, "mean_absolute_error", "mean_absolute_error {}"),
          named(value, "mean_squared_error", "mean_squared_error {}"),
          named(value, "xauc", "xauc {}"),
          named(value, "grouped_xauc", "grouped_xauc { grouping_key: 'g' }")};
}

TEST(Metrics, WriteTheirValuesForTorchmetricsToCompare) {
  json written = json::array();
  for (const Case& c : RandomCases()) {
    const double one = OneRank(c), two = TwoRanks(c);
    EXPECT_NEAR(one, two, 1e-12) << c.name;
    written.push_back({{"name", c.name},
                       {"columns", c.columns},
                       {"predictions", c.predictions},
                       {"labels", c.labels},
                       {"groups", c.groups},
                       {"one_rank", one},
                       {"two_ranks", two}});
  }
  std::ofstream out("metrics.json");
  ASSERT_TRUE(out << written.dump());
}

TEST(Auc, LogitsGetASigmoidAndOneClassIsZero) {
  Auc auc(200), same(200);
  const Floats logits = {-3.f, 2.f, 0.5f, -0.5f}, labels = {0, 1, 1, 0};
  Floats probabilities;
  for (const float x : logits) probabilities.push_back(1.f / (1.f + std::exp(-x)));
  auc.Update({logits, labels, {}});
  same.Update({probabilities, labels, {}});
  EXPECT_EQ(auc.Compute(), same.Compute());
  EXPECT_EQ(auc.Compute(), 1.0);
  Auc empty(200);
  const Floats ones{1, 1, 1, 1};
  empty.Update({probabilities, ones, {}});
  EXPECT_EQ(empty.Compute(), 0.0);
}

TEST(PairRanking, ByHand) {
  // labels 1 < 2 < 3 < 3: five of six pairs differ; one of them is ordered wrongly, one has equal predictions.
  const std::vector<Sample> rows = {{0, 0.3f, 1}, {0, 0.2f, 2}, {0, 0.3f, 3}, {0, 0.9f, 3}};
  const PairCounts counts = CountPairs(rows);
  EXPECT_EQ(counts.different, 5);
  EXPECT_EQ(counts.tied, 1);
  EXPECT_EQ(counts.concordant, 3);
  EXPECT_EQ(CountPairs({}).different, 0);
}

TEST(PairRanking, InBatchIsTheMeanOverBatches) {
  const auto xauc = Make("xauc { in_batch: true }");
  const Floats good{1, 2, 3}, bad{2, 1}, one{1}, nan{NAN, NAN};
  xauc->Update({good, good, {}});
  xauc->Update({bad, Floats{1, 2}, {}});
  xauc->Update({one, one, {}});  // no pair
  xauc->Update({nan, bad, {}});  // no order
  xauc->FoldSamples();
  EXPECT_EQ(xauc->Compute(), 0.5);
}

TEST(PairRanking, NoPairHasNoValue) {
  for (const char* text : {"xauc {}", "grouped_xauc { grouping_key: 'g' }", "grouped_auc { grouping_key: 'g' }"}) {
    const auto metric = Make(text);
    metric->FoldSamples();
    EXPECT_TRUE(std::isnan(metric->Compute())) << text;
    const Floats x{1, 2}, y{1, 1};
    const std::vector<int64_t> groups{4, 5};
    if (metric->compares_rows() && std::string(text) != "xauc {}") {
      metric->Update({x, y, groups});  // groups of one row, of one class
      metric->FoldSamples();
      EXPECT_TRUE(std::isnan(metric->Compute())) << text;
    }
  }
}

TEST(TopK, NumbersThatAreNoneAndLabelsOutsideAreWrong) {
  const auto top = Make("accuracy { top_k: 2 }", 3);
  const Floats rows{NAN, 0.2f, 0.1f, 0.5f, 0.5f, 0.5f, 0.1f, 0.2f, 0.7f}, labels{0, 1, 7};
  top->Update({rows, labels, {}});
  EXPECT_NEAR(top->Compute(), 1.0 / 3, 1e-12);
}

TEST(Names, RecallNamesItsK) {
  tzrec::protos::MetricConfig config;
  EXPECT_THROW(Name(config), ConfigError);
  EXPECT_THROW(MakeMetric(config, 1), ConfigError);
  config.mutable_recall_at_k()->set_top_k(7);
  EXPECT_EQ(Name(config), "recall@7");
  config.mutable_grouped_auc()->set_grouping_key("user");
  EXPECT_EQ(Name(config), "grouped_auc");
  EXPECT_EQ(GroupingKey(config), "user");
  EXPECT_EQ(PredictionOf(config, 2), "probs1");
}

}  // namespace
}  // namespace anneal::metrics
