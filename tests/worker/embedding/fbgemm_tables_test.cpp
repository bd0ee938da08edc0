// FBGEMM's tables against our own kernels: the same inputs, the same outputs, weights and state. On the CPU, and on a
// CUDA device with ANNEAL_DEVICE=cuda (make gpu-check), where FBGEMM has the other optimizers, too.
#include "worker/embedding/fbgemm_tables.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "worker/config/error.h"
#include "worker/dist/device.h"

namespace anneal::embedding {
namespace {

const std::string kFbgemm = ANNEAL_SOURCE_DIR "/.deps/bench/fbgemm_gpu";
constexpr int64_t kRows = 37, kWidth = 8 + 4 + 4 + 8 + 16;

/// A batch of jagged ids for each feature.
struct Input {
  std::vector<int64_t> values, offsets{0};
  std::vector<float> weights;
  std::vector<Jagged> jagged;
};

class FbgemmTables : public testing::Test {
 protected:
  void SetUp() override {
    if (device_.is_cuda()) return;
    if (!std::filesystem::exists(kFbgemm)) GTEST_SKIP() << "needs fbgemm-gpu-cpu: cmake/deps/install bench";
    setenv("ANNEAL_FBGEMM", kFbgemm.c_str(), 1);
  }

  // Tables of several widths and sizes, one that two features share, one that is averaged, one that is frozen. The
  // features' columns are not in the order of the tables.
  const std::vector<TableSpec> tables_{{"a", 50, 8}, {"b", 7, 4}, {"mean", 20, 8}, {"frozen", 11, 16, false}};
  std::vector<FeatureSpec> features_{{1, Pooling::kSum, 32},
                                     {0, Pooling::kSum, 0},
                                     {2, Pooling::kMean, 8},
                                     {1, Pooling::kSum, 36},
                                     {3, Pooling::kSum, 16}};

  Input MakeInput(bool weighted) {
    Input input;
    std::vector<size_t> starts;
    for (const FeatureSpec& feature : features_) {
      starts.push_back(input.offsets.size() - 1);
      for (int64_t b = 0; b < kRows; ++b) {
        for (int64_t n = random_() % 4; n > 0; --n) {
          const auto id = static_cast<int64_t>(random_() % (tables_[feature.table].rows + 1));  // the last is outside
          input.values.push_back(id);
          input.weights.push_back(static_cast<float>(random_() % 100) / 50.f);
        }
        input.offsets.push_back(static_cast<int64_t>(input.values.size()));
      }
    }
    for (const size_t start : starts) {
      input.jagged.push_back(
          {input.values.data(), input.offsets.data() + start, weighted ? input.weights.data() : nullptr});
    }
    return input;
  }

  std::vector<float> Random(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  static void ExpectNear(const float* a, const float* b, int64_t count, const std::string& what) {
    for (int64_t i = 0; i < count; ++i)
      ASSERT_NEAR(a[i], b[i], 2e-6 * std::max(1.f, std::fabs(b[i]))) << what << " " << i;
  }

  at::Tensor OnDevice(std::vector<float>& values) {
    return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat)
        .to(device_, /*non_blocking=*/false, /*copy=*/true);
  }
  at::Tensor Tensor(float* theirs, int64_t count) {
    return at::from_blob(theirs, {count}, at::TensorOptions().device(device_).dtype(at::kFloat));
  }
  at::Tensor Host(float* theirs, int64_t count) { return Tensor(theirs, count).to(at::kCPU); }

  void Compare(const OptimizerSpec& optimizer, bool weighted) {
    SCOPED_TRACE("optimizer " + std::to_string(static_cast<int>(optimizer.type)) + (weighted ? ", weighted" : ""));
    const auto theirs = MakeFbgemmTableBatch(tables_, features_, optimizer, device_);
    const auto ours = MakeCpuTableBatch(tables_, features_, optimizer, 1);
    for (int t = 0; t < 4; ++t) {
      auto init = Random(tables_[t].rows * tables_[t].dim);
      Tensor(theirs->weights(t), init.size()).copy_(OnDevice(init));
      std::copy(init.begin(), init.end(), ours->weights(t));
    }
    for (int step = 0; step < 5; ++step) {
      const Input input = MakeInput(weighted);
      std::vector<float> expected(kRows * kWidth, -1);
      const at::Tensor out = at::full({kRows * kWidth}, -1.f, at::TensorOptions().device(device_).dtype(at::kFloat));
      const float rate = 0.1f / static_cast<float>(step + 1);
      theirs->set_learning_rate(rate);
      theirs->Forward(input.jagged, kRows, out.data_ptr<float>(), kWidth);
      ours->Forward(input.jagged, kRows, expected.data(), kWidth);
      ExpectNear(out.to(at::kCPU).data_ptr<float>(), expected.data(), kRows * kWidth, "output");
      auto grad = Random(kRows * kWidth);
      const at::Tensor grad_there = OnDevice(grad);
      theirs->BackwardUpdate(input.jagged, kRows, grad_there.const_data_ptr<float>(), kWidth, 0.5f, rate);
      ours->BackwardUpdate(input.jagged, kRows, grad.data(), kWidth, 0.5f, rate);
      for (int t = 0; t < 4; ++t) {
        const int64_t elements = tables_[t].rows * tables_[t].dim;
        ExpectNear(Host(theirs->weights(t), elements).data_ptr<float>(), ours->weights(t), elements, tables_[t].name);
        const auto a = theirs->state(t), b = ours->state(t);
        ASSERT_EQ(a.size(), b.size());
        for (size_t s = 0; s < a.size(); ++s) {
          EXPECT_EQ(a[s].name, b[s].name);
          ASSERT_EQ(a[s].dim, b[s].dim);
          const int64_t values = a[s].rows * std::max<int64_t>(a[s].dim, 1);
          ExpectNear(Host(a[s].data, values).data_ptr<float>(), b[s].data, values, tables_[t].name + "." + a[s].name);
        }
      }
      EXPECT_EQ(theirs->out_of_range(), ours->out_of_range());
    }
    EXPECT_GT(ours->out_of_range(), 0);
  }

  const at::Device device_ = dist::ChooseDevice({});
  std::mt19937 random_{7};
};

TEST_F(FbgemmTables, TrainAsOurOwn) {
  OptimizerSpec sgd, adagrad, rowwise, clamped;
  adagrad.type = OptimizerType::kAdagrad;
  adagrad.initial_accumulator = 0.1f;
  rowwise.type = OptimizerType::kRowwiseAdagrad;
  clamped.type = OptimizerType::kAdagrad;
  clamped.max_gradient = 0.2f;
  clamped.initial_accumulator = 0.1f;  // gradients of one size cancel out: without it their rounding would decide
  for (const OptimizerSpec& optimizer : {sgd, adagrad, rowwise, clamped}) Compare(optimizer, false);
  // FBGEMM's CPU build trains averages of weighted ids otherwise than its CUDA build, whose formula is ours.
  if (!device_.is_cuda()) features_[2].pooling = Pooling::kSum;
  for (const OptimizerSpec& optimizer : {sgd, adagrad, rowwise, clamped}) Compare(optimizer, true);
}

TEST_F(FbgemmTables, TheOptimizersOfCudaAlone) {
  if (!device_.is_cuda()) GTEST_SKIP() << "FBGEMM's CPU build does not have them";
  for (const auto type : {OptimizerType::kAdam, OptimizerType::kPartialRowwiseAdam, OptimizerType::kLamb,
                          OptimizerType::kPartialRowwiseLamb, OptimizerType::kLarsSgd}) {
    OptimizerSpec optimizer;
    optimizer.type = type;
    optimizer.weight_decay = 0.01f;
    Compare(optimizer, false);
  }
}

TEST_F(FbgemmTables, GradientsForTheDenseOptimizer) {
  const auto theirs = MakeFbgemmTableBatch(tables_, features_, {}, device_);
  const auto ours = MakeCpuTableBatch(tables_, features_, {}, 1);
  for (const bool weighted : {false, true}) {
    const Input input = MakeInput(weighted);
    std::vector<float> out(kRows * kWidth), grad = Random(kRows * kWidth);
    const at::Tensor their_out = OnDevice(out), their_grad = OnDevice(grad);
    theirs->Forward(input.jagged, kRows, their_out.data_ptr<float>(), kWidth);
    std::vector<at::Tensor> a(4);
    std::vector<std::vector<float>> b(4);
    std::vector<float*> to_a, to_b;
    for (int t = 0; t < 4; ++t) {
      b[t] = Random(tables_[t].rows * tables_[t].dim);
      a[t] = OnDevice(b[t]);
      to_a.push_back(t == 1 ? nullptr : a[t].data_ptr<float>());
      to_b.push_back(t == 1 ? nullptr : b[t].data());
    }
    theirs->AccumulateGradients(input.jagged, kRows, their_grad.data_ptr<float>(), kWidth, to_a);
    ours->AccumulateGradients(input.jagged, kRows, grad.data(), kWidth, to_b);
    for (int t = 0; t < 4; ++t) {
      const at::Tensor got = a[t].to(at::kCPU);
      ExpectNear(got.const_data_ptr<float>(), b[t].data(), got.numel(), tables_[t].name);
    }
  }
}

TEST_F(FbgemmTables, ABatchWithoutRows) {
  const auto tables = MakeFbgemmTableBatch(tables_, features_, {}, device_);
  const std::vector<Jagged> nothing(features_.size(), Jagged{nullptr, nullptr, nullptr});
  tables->set_learning_rate(0.1f);
  tables->Forward(nothing, 0, nullptr, kWidth);
  tables->BackwardUpdate(nothing, 0, nullptr, kWidth, 1.f, 0.1f);
  EXPECT_EQ(tables->iteration(), 1);
}

TEST_F(FbgemmTables, WhatItCannotDoIsNamed) {
  OptimizerSpec adadelta;
  adadelta.type = OptimizerType::kAdadelta;
  EXPECT_THROW(MakeFbgemmTableBatch(tables_, features_, adadelta, device_), ConfigError);
}

}  // namespace
}  // namespace anneal::embedding
