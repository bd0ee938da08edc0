// A snapshot of the tables reads as they were when it was made, however they are trained while it is read.
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <random>
#include <thread>

#include "worker/embedding/table_batch.h"

namespace anneal::embedding {
namespace {

constexpr int64_t kRows = 64;

class Snapshot : public testing::TestWithParam<OptimizerType> {
 protected:
  // One table that a few ids touch again and again, one whose rows are touched here and there, one frozen.
  const std::vector<TableSpec> tables_{{"hot", 40, 8}, {"large", 20000, 12}, {"frozen", 30, 4, false}};
  const std::vector<FeatureSpec> features_{{0, Pooling::kSum, 0}, {1, Pooling::kMean, 8}, {2, Pooling::kSum, 20}};
  static constexpr int64_t kWidth = 24;

  void Train(TableBatch& batch) {
    std::vector<int64_t> values, offsets{0};
    for (const FeatureSpec& feature : features_) {
      for (int64_t b = 0; b < kRows; ++b) {
        for (int i = 0; i < 3; ++i) values.push_back(static_cast<int64_t>(random_() % tables_[feature.table].rows));
        offsets.push_back(static_cast<int64_t>(values.size()));
      }
    }
    std::vector<Jagged> jagged;
    for (size_t f = 0; f < features_.size(); ++f) {
      jagged.push_back({values.data(), offsets.data() + static_cast<int64_t>(f) * kRows, nullptr});
    }
    std::normal_distribution<float> normal;
    std::vector<float> grad(kRows * kWidth);
    for (float& g : grad) g = normal(random_);
    batch.BackwardUpdate(jagged, kRows, grad.data(), kWidth, 1.f, 0.1f);
  }

  /// Weights and states of every table, in the order of the parts.
  static std::vector<std::vector<float>> Live(TableBatch& batch) {
    std::vector<std::vector<float>> all;
    for (int t = 0; t < static_cast<int>(batch.tables().size()); ++t) {
      const TableSpec& spec = batch.tables()[t];
      all.emplace_back(batch.weights(t), batch.weights(t) + spec.rows * spec.dim);
      for (const StateView& view : batch.state(t)) {
        all.emplace_back(view.data, view.data + view.rows * std::max<int64_t>(view.dim, 1));
      }
    }
    return all;
  }

  static std::vector<std::vector<float>> Read(TableBatch& batch, const TableSnapshot& snapshot,
                                              const std::vector<std::vector<float>>& like) {
    std::vector<std::vector<float>> all;
    for (int t = 0; t < static_cast<int>(batch.tables().size()); ++t) {
      const int parts = 1 + static_cast<int>(batch.state(t).size());
      for (int part = 0; part < parts; ++part) {
        std::vector<float> values(like[all.size()].size());
        constexpr int64_t kChunk = 777;  // not a multiple of a row
        for (int64_t first = 0; first < static_cast<int64_t>(values.size()); first += kChunk) {
          const int64_t count = std::min(kChunk, static_cast<int64_t>(values.size()) - first);
          snapshot.Read(t, part, first, count, values.data() + first);
        }
        all.push_back(std::move(values));
      }
    }
    return all;
  }

  std::mt19937 random_{3};
};

TEST_P(Snapshot, StaysAsItWasWhileTrainingGoesOn) {
  OptimizerSpec optimizer;
  optimizer.type = GetParam();
  const auto batch = MakeCpuTableBatch(tables_, features_, optimizer, 2);
  for (int t = 0; t < 3; ++t) std::iota(batch->weights(t), batch->weights(t) + tables_[t].rows * tables_[t].dim, 0.f);
  for (int round = 0; round < 3; ++round) {
    Train(*batch);
    const auto before = Live(*batch);
    const auto snapshot = batch->Snapshot();
    std::atomic<bool> read{false};
    std::vector<std::vector<float>> seen;
    std::thread reader([&] {
      for (int i = 0; i < 5; ++i) seen = Read(*batch, *snapshot, before);
      read = true;
    });
    int steps = 0;
    while (!read || steps < 3) Train(*batch), ++steps;
    reader.join();
    EXPECT_EQ(seen, before);
    EXPECT_EQ(Read(*batch, *snapshot, before), before);  // all of the training is over
    EXPECT_NE(Live(*batch), before);
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, Snapshot,
                         testing::Values(OptimizerType::kSgd, OptimizerType::kAdagrad, OptimizerType::kRowwiseAdagrad,
                                         OptimizerType::kAdam, OptimizerType::kPartialRowwiseLamb));

}  // namespace
}  // namespace anneal::embedding
