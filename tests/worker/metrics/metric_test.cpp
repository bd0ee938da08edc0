#include "worker/metrics/metric.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "worker/config/error.h"

namespace anneal::metrics {
namespace {

using Floats = std::vector<float>;

/// Probability that a positive row scores above a negative one, ties counting half: the AUC by its definition.
double ExactAuc(const Floats& predictions, const Floats& labels) {
  double pairs = 0, wins = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    for (size_t j = 0; j < labels.size(); ++j) {
      if (labels[i] <= labels[j]) continue;
      pairs += 1;
      wins += predictions[i] > predictions[j] ? 1 : predictions[i] == predictions[j] ? 0.5 : 0;
    }
  }
  return wins / pairs;
}

TEST(Auc, EqualsTheDefinitionOnPredictionsBetweenThresholds) {
  // Predictions in the middle of the bins of 101 thresholds: binning loses nothing.
  std::mt19937 random(1);
  Floats predictions, labels;
  for (int i = 0; i < 400; ++i) {
    const int bin = static_cast<int>(random() % 99);
    predictions.push_back((static_cast<float>(bin) + 0.5f) / 100.f);
    labels.push_back(random() % 100 < static_cast<unsigned>(bin) ? 1.f : 0.f);
  }
  Auc auc(101);
  auc.Update(predictions, labels);
  EXPECT_NEAR(auc.Compute(), ExactAuc(predictions, labels), 1e-12);
}

TEST(Auc, BatchesAndRanksAddUp) {
  std::mt19937 random(2);
  Floats predictions, labels;
  for (int i = 0; i < 1000; ++i) {
    predictions.push_back(static_cast<float>(random() % 1000) / 999.f);
    labels.push_back(static_cast<float>(random() % 2));
  }
  Auc whole(200), first(200), second(200);
  whole.Update(predictions, labels);
  first.Update({predictions.data(), 300}, {labels.data(), 300});
  second.Update({predictions.data() + 300, 700}, {labels.data() + 300, 700});
  for (size_t i = 0; i < first.state().size(); ++i) first.state()[i] += second.state()[i];
  EXPECT_EQ(first.Compute(), whole.Compute());
}

TEST(Auc, LogitsGetASigmoidAndOneClassIsZero) {
  Auc auc(200), same(200);
  const Floats logits = {-3.f, 2.f, 0.5f, -0.5f}, labels = {0, 1, 1, 0};
  Floats probabilities;
  for (const float x : logits) probabilities.push_back(1.f / (1.f + std::exp(-x)));
  auc.Update(logits, labels);
  same.Update(probabilities, labels);
  EXPECT_EQ(auc.Compute(), same.Compute());
  EXPECT_EQ(auc.Compute(), 1.0);
  Auc empty(200);
  empty.Update(probabilities, Floats{1, 1, 1, 1});
  EXPECT_EQ(empty.Compute(), 0.0);
}

TEST(Others, ByHand) {
  tzrec::protos::MetricConfig config;
  config.mutable_mean_absolute_error();
  auto mae = MakeMetric(config);
  mae->Update(Floats{1.f, 2.f, 4.f}, Floats{0.f, 2.f, 1.f});
  EXPECT_NEAR(mae->Compute(), 4.0 / 3, 1e-12);
  config.mutable_mean_squared_error();
  auto mse = MakeMetric(config);
  mse->Update(Floats{1.f, 2.f, 4.f}, Floats{0.f, 2.f, 1.f});
  EXPECT_NEAR(mse->Compute(), 10.0 / 3, 1e-12);
  config.mutable_accuracy();
  auto accuracy = MakeMetric(config);
  accuracy->Update(Floats{0.9f, 0.4f, 0.6f, 0.1f}, Floats{1, 1, 0, 0});
  EXPECT_NEAR(accuracy->Compute(), 0.5, 1e-12);
  config.mutable_xauc();
  EXPECT_THROW(MakeMetric(config), ConfigError);
}

TEST(WeightedMean, ByRows) {
  WeightedMean mean;
  mean.Update(Floats{2.f, 5.f}, Floats{10.f, 30.f});
  EXPECT_NEAR(mean.Compute(), (20.0 + 150) / 40, 1e-12);
}

}  // namespace
}  // namespace anneal::metrics
