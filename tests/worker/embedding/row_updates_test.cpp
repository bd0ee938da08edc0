// What the golden optimizer files do not hold: Adadelta and RMSprop against their formulas in float64, frozen tables,
// dense gradients; in the scalar, AVX2 and AVX-512 kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "worker/embedding/table_batch.h"

namespace anneal::embedding {
namespace {

constexpr int64_t kRows = 6, kDim = 11;  // a width that no vector length divides

class RowUpdates : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string kernels = GetParam();
    if ((kernels == "avx2" && !__builtin_cpu_supports("avx2")) ||
        (kernels == "avx512" && !__builtin_cpu_supports("avx512f"))) {
      GTEST_SKIP() << "this CPU has no " << kernels;
    }
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

INSTANTIATE_TEST_SUITE_P(Kernels, RowUpdates, testing::Values("scalar", "avx2", "avx512"));

}  // namespace
}  // namespace anneal::embedding
