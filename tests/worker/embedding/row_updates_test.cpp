// What the golden optimizer files do not hold: Adadelta and RMSprop against their formulas in float64, frozen tables,
// dense gradients; in the scalar, AVX2 and AVX-512 kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "worker/config/instruction_set.h"
#include "worker/embedding/table_batch.h"

namespace anneal::embedding {
namespace {

constexpr int64_t kRows = 6, kDim = 11;  // a width that no vector length divides

class RowUpdates : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string kernels = GetParam();
    if (!config::CpuRuns(kernels)) GTEST_SKIP() << "this CPU has no " << kernels;
    setenv("ANNEAL_CPU_KERNELS", kernels.c_str(), 1);
    for (float& value : weights_) value = Draw();
  }
  void TearDown() override { unsetenv("ANNEAL_CPU_KERNELS"); }

  float Draw() { return std::uniform_real_distribution<float>(-1, 1)(random_); }

  std::unique_ptr<TableBatch> Make(const OptimizerSpec& spec, bool trainable = true) {
    auto tables = MakeCpuTableBatch({{"t", kRows, kDim, trainable}}, {{0, Pooling::kSum, 0}}, spec, 1);
    std::copy(weights_.begin(), weights_.end(), tables->weights(0));
    return tables;
  }

  // Bags: {1, 3}, {3}, {}, {3, 5}: row 3 is in three of them.
  const std::vector<int64_t> ids_{1, 3, 3, 3, 5}, offsets_{0, 2, 3, 3, 5};
  const Jagged jagged_{ids_.data(), offsets_.data(), nullptr};
  std::mt19937 random_{7};
  std::vector<float> weights_ = std::vector<float>(kRows * kDim);

  std::vector<float> Gradients() {
    std::vector<float> gradients(4 * kDim);
    for (float& value : gradients) value = Draw();
    return gradients;
  }
  /// d loss / d weights in float64.
  std::vector<double> Summed(const std::vector<float>& gradients) const {
    std::vector<double> sum(kRows * kDim, 0);
    for (int64_t b = 0; b < 4; ++b) {
      for (int64_t i = offsets_[b]; i < offsets_[b + 1]; ++i) {
        for (int64_t d = 0; d < kDim; ++d) sum[ids_[i] * kDim + d] += gradients[b * kDim + d];
      }
    }
    return sum;
  }

  /// Five steps of `spec`; `formula(w, s, u, g)` changes a weight and its two states.
  void Check(const OptimizerSpec& spec, void (*formula)(const OptimizerSpec&, double&, double&, double&, double)) {
    const auto tables = Make(spec);
    std::vector<double> w(weights_.begin(), weights_.end()), s(w.size(), 0), u(w.size(), 0);
    for (int step = 0; step < 5; ++step) {
      const auto gradients = Gradients();
      tables->BackwardUpdate({&jagged_, 1}, 4, gradients.data(), kDim, 1.f, 0.1f);
      const auto g = Summed(gradients);
      for (const int64_t row : {1, 3, 5}) {
        for (int64_t i = row * kDim; i < (row + 1) * kDim; ++i) formula(spec, w[i], s[i], u[i], g[i]);
      }
      for (size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(tables->weights(0)[i], w[i], 2e-6) << "step " << step;
    }
    for (const auto& state : tables->state(0)) {
      for (size_t i = 0; i < w.size(); ++i) {
        EXPECT_NEAR(state.data[i], (state.name == "momentum1" ? s : u)[i], 2e-6) << state.name;
      }
    }
  }
};

TEST_P(RowUpdates, Adadelta) {
  OptimizerSpec spec;
  spec.type = OptimizerType::kAdadelta;
  spec.beta1 = 0.9f;
  spec.eps = 1e-4f;
  spec.weight_decay = 0.05f;
  Check(spec, [](const OptimizerSpec& o, double& w, double& s, double& u, double g) {
    g += o.weight_decay * w;
    s = o.beta1 * s + (1 - o.beta1) * g * g;
    const double delta = std::sqrt(u + o.eps) / std::sqrt(s + o.eps) * g;
    u = o.beta1 * u + (1 - o.beta1) * delta * delta;
    w -= 0.1f * delta;
  });
}

TEST_P(RowUpdates, Rmsprop) {
  OptimizerSpec spec;
  spec.type = OptimizerType::kRmsprop;
  spec.beta1 = 0.9f;
  spec.eps = 1e-6f;
  spec.weight_decay = 0.05f;
  Check(spec, [](const OptimizerSpec& o, double& w, double& s, double&, double g) {
    g += o.weight_decay * w;
    s = o.beta1 * s + (1 - o.beta1) * g * g;
    w -= 0.1f * g / (std::sqrt(s) + o.eps);
  });
}

TEST_P(RowUpdates, AFrozenTableStays) {
  const auto tables = Make({}, /*trainable=*/false);
  const auto gradients = Gradients();
  tables->BackwardUpdate({&jagged_, 1}, 4, gradients.data(), kDim, 1.f, 0.1f);
  for (size_t i = 0; i < weights_.size(); ++i) ASSERT_EQ(tables->weights(0)[i], weights_[i]);
}

TEST_P(RowUpdates, DenseGradientsCoverAllRowsAndAdd) {
  const auto tables = Make({}, /*trainable=*/false);
  const auto gradients = Gradients();
  std::vector<float> out(kRows * kDim, 1.f);
  float* const target = out.data();
  tables->AccumulateGradients({&jagged_, 1}, 4, gradients.data(), kDim, {&target, 1});
  const auto expected = Summed(gradients);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], 1 + expected[i], 1e-6);
  for (size_t i = 0; i < weights_.size(); ++i) ASSERT_EQ(tables->weights(0)[i], weights_[i]);
}

// Runs of bags with one id or none, longer bags between them, ids outside the table, and as many ids as the additions
// are gathered for (256) and one more.
TEST_P(RowUpdates, ManyBagsOfEveryLength) {
  constexpr int64_t kTableRows = 50, kColumn = 3;
  for (const int64_t dim : {4, 5, 16, 33, 64}) {
    for (const int64_t wanted : {256, 257, 700}) {
      std::vector<int64_t> ids, offsets{0};
      while (static_cast<int64_t>(ids.size()) < wanted) {
        const int64_t kind = random_() % 20;
        const int64_t count = kind < 4 ? 0 : kind == 19 && offsets.size() > 300 ? 3 : 1;
        for (int64_t i = 0; i < count && static_cast<int64_t>(ids.size()) < wanted; ++i)
          ids.push_back(static_cast<int64_t>(random_() % 55) - 2);
        offsets.push_back(static_cast<int64_t>(ids.size()));
      }
      const auto bags = static_cast<int64_t>(offsets.size()) - 1, stride = dim + kColumn + 2;
      const Jagged jagged{ids.data(), offsets.data(), nullptr};
      for (const float bound : {0.f, 0.4f}) {
        OptimizerSpec spec;
        spec.max_gradient = bound;
        const auto tables = MakeCpuTableBatch({{"t", kTableRows, dim}}, {{0, Pooling::kSum, kColumn}}, spec, 1);
        std::vector<float> weights(kTableRows * dim);
        for (float& value : weights) value = Draw();
        std::copy(weights.begin(), weights.end(), tables->weights(0));
        std::vector<float> out(bags * stride, 77), want = out, gradients(bags * stride);
        for (float& value : gradients) value = Draw();
        std::vector<double> sums(weights.size(), 0);
        int64_t outside = 0;
        for (int64_t b = 0; b < bags; ++b) {
          float* target = want.data() + b * stride + kColumn;
          std::fill_n(target, dim, 0.f);
          for (int64_t i = offsets[b]; i < offsets[b + 1]; ++i) {
            const bool inside = ids[i] >= 0 && ids[i] < kTableRows;
            const int64_t row = inside ? ids[i] : 0;
            outside += !inside;
            for (int64_t d = 0; d < dim; ++d) {
              target[d] += weights[row * dim + d];
              const double g = gradients[b * stride + kColumn + d];
              sums[row * dim + d] += bound > 0 ? std::clamp<double>(g, -bound, bound) : g;
            }
          }
        }
        tables->Forward({&jagged, 1}, bags, out.data(), stride);
        ASSERT_EQ(out, want) << dim << " " << wanted;
        EXPECT_EQ(tables->out_of_range(), outside);
        tables->BackwardUpdate({&jagged, 1}, bags, gradients.data(), stride, 1.f, 0.1f);
        for (size_t i = 0; i < weights.size(); ++i)
          ASSERT_NEAR(tables->weights(0)[i], weights[i] - 0.1 * sums[i], 1e-5) << dim << " " << wanted << " " << bound;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, RowUpdates, testing::Values("scalar", "avx2", "avx512"));

}  // namespace
}  // namespace anneal::embedding
