// Every instruction set's products against sums in double, at sizes that leave parts of tiles, panels and blocks over.
#include "worker/nn/matrix_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "worker/config/instruction_set.h"

namespace anneal::nn {

const MatrixKernels& WideMatrixKernels();
const MatrixKernels& WideAmxMatrixKernels();

namespace {

using Numbers = std::vector<float>;

Numbers Random(int64_t count, unsigned seed) {
  std::minstd_rand random(seed);
  std::normal_distribution<float> normal;
  Numbers numbers(count);
  for (float& number : numbers) number = normal(random);
  return numbers;
}

/// The largest error as a share of what a sum of `terms` terms of size 1 may have: the partial sums grow like sqrt(k),
/// each addition rounds by up to 6e-8 of one, which is 4e-8 `terms` in the mean of squares; five times that are
/// allowed.
struct Error {
  int64_t terms;
  double worst = 0;
  void Add(float got, double want) {
    const double allowed = 2e-7 * static_cast<double>(terms) + 2e-7 * std::abs(want);
    worst = std::max(worst, std::abs(got - want) / allowed);
  }
};

class MatrixKernelsTest : public testing::TestWithParam<const char*> {
 protected:
  const MatrixKernels* kernels_ = nullptr;
  void SetUp() override {
    const std::string name = GetParam();
    const std::map<std::string, const MatrixKernels& (*)()> all = {
        {"scalar", ScalarMatrixKernels}, {"avx2", Avx2MatrixKernels}, {"avx512", Avx512MatrixKernels},
        {"amx", AmxMatrixKernels},       {"wide", WideMatrixKernels}, {"wide_amx", WideAmxMatrixKernels}};
    if (!name.starts_with("wide") && !config::CpuRuns(name))
      GTEST_SKIP() << "not on this CPU; 'wide' is the code of AVX-512, 'wide_amx' that of AMX";
    kernels_ = &all.at(name)();
    ASSERT_EQ(kernels_->name, name);
  }
};

INSTANTIATE_TEST_SUITE_P(InstructionSets, MatrixKernelsTest,
                         testing::Values("scalar", "avx2", "avx512", "amx", "wide", "wide_amx"),
                         [](const auto& info) { return info.param; });

TEST_P(MatrixKernelsTest, Multiply) {
  constexpr float kUntouched = 12345;
  for (const int64_t rows : {1, 5, 97, 241}) {
    for (const int64_t depth : {1, 13, 256, 429, 600}) {
      for (const int64_t columns : {1, 16, 37, 64}) {
        const int64_t a_stride = depth + 3, y_stride = columns + 2;
        const Numbers a = Random(rows * a_stride, 1), w = Random(columns * depth, 2), bias = Random(columns, 3);
        Numbers panels(kernels_->panels_size(depth, columns));
        for (const bool end : {false, true}) {
          // W [columns, depth] as it is in a layer, then its transpose.
          const bool transposed = !end;
          kernels_->pack(w.data(), transposed ? columns : 1, transposed ? 1 : depth, depth, columns, panels.data());
          Numbers y(rows * y_stride, kUntouched);
          kernels_->multiply(a.data(), a_stride, rows, panels.data(), depth, columns, end ? bias.data() : nullptr, end,
                             y.data(), y_stride);
          Error error{depth};
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t n = 0; n < columns; ++n) {
              double want = end ? bias[n] : 0;
              for (int64_t k = 0; k < depth; ++k)
                want += static_cast<double>(a[r * a_stride + k]) * w[transposed ? k * columns + n : n * depth + k];
              error.Add(y[r * y_stride + n], end ? std::max(want, 0.0) : want);
            }
            ASSERT_EQ(y[r * y_stride + columns], kUntouched) << rows << " " << depth << " " << columns;
          }
          EXPECT_LE(error.worst, 1) << rows << " " << depth << " " << columns << " " << end;
        }
      }
    }
  }
}

TEST_P(MatrixKernelsTest, Outer) {
  for (const int64_t m : {1, 6, 64, 97}) {
    for (const int64_t n : {1, 13, 48, 429}) {
      const int64_t rows = 2 * kernels_->block + 7;
      const Numbers g = Random(rows * m, 4), x = Random(rows * (n + 1), 5);
      Numbers sums(kernels_->outer_size(m, n)), scratch(kernels_->outer_scratch(m, n)), got(m * n);
      for (int64_t row = 0; row < rows; row += kernels_->block) {
        kernels_->add_outer(g.data() + row * m, m, m, x.data() + row * (n + 1), n + 1, n,
                            std::min(kernels_->block, rows - row), scratch.data(), sums.data());
      }
      kernels_->take_outer(sums.data(), m, n, got.data());
      Error error{rows};
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double want = 0;
          for (int64_t r = 0; r < rows; ++r) want += static_cast<double>(g[r * m + i]) * x[r * (n + 1) + j];
          error.Add(got[i * n + j], want);
        }
      }
      EXPECT_LE(error.worst, 1) << m << " " << n;
    }
  }
}

TEST_P(MatrixKernelsTest, AddProduct) {
  constexpr float kUntouched = 12345;
  for (const int64_t rows : {1, 16, 33}) {
    for (const int64_t depth : {1, 64}) {
      const int64_t columns = 3 * kernels_->lanes, b_stride = columns + 1, c_stride = columns + 2;
      const Numbers a = Random(rows * depth, 8), b = Random(depth * b_stride, 9);
      for (const bool transposed : {false, true}) {
        Numbers c(rows * c_stride, kUntouched);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t n = 0; n < columns; ++n) c[r * c_stride + n] = 2;
        }
        kernels_->add_product(a.data(), transposed ? 1 : depth, transposed ? rows : 1, rows, b.data(), b_stride, depth,
                              columns, c.data(), c_stride);
        Error error{depth};
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t n = 0; n < columns; ++n) {
            double want = 2;
            for (int64_t k = 0; k < depth; ++k)
              want += static_cast<double>(transposed ? a[k * rows + r] : a[r * depth + k]) * b[k * b_stride + n];
            error.Add(c[r * c_stride + n], want);
          }
          ASSERT_EQ(c[r * c_stride + columns], kUntouched);
        }
        EXPECT_LE(error.worst, 1) << rows << " " << depth << " " << transposed;
      }
    }
  }
}

TEST_P(MatrixKernelsTest, RowsByIndex) {
  const int64_t band = MatrixKernels::kBand, stride = band + 3, rows = 7, count = 5, lists = 4;
  const Numbers table = Random(11 * band, 10), before = Random(rows * stride, 11);
  std::vector<int32_t> index(rows * count);
  for (size_t i = 0; i < index.size(); ++i) index[i] = static_cast<int32_t>(i * 7 % 11);
  for (const bool relu : {false, true}) {
    Numbers y = before;
    kernels_->add_rows(table.data(), index.data(), count, rows, relu, y.data(), stride);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < stride; ++n) {
        float want = before[r * stride + n];
        for (int64_t i = 0; n < band && i < count; ++i) want += table[index[r * count + i] * band + n];
        if (relu && n < band) want = std::max(want, 0.f);
        ASSERT_FLOAT_EQ(y[r * stride + n], want) << r << " " << n;
      }
    }
  }
  // An empty list, one of many, the last one ends the index.
  std::vector<int32_t> many(1000, 3);
  many.back() = 4;
  const std::vector<int32_t> begin{2, 2, 5, 999, 1000};
  Numbers sums(lists * band, 9);
  kernels_->sum_rows(table.data(), many.data(), begin.data(), lists, sums.data());
  for (int64_t n = 0; n < band; ++n) {
    EXPECT_EQ(sums[n], 0);
    EXPECT_FLOAT_EQ(sums[band + n], 3 * table[3 * band + n]);
    EXPECT_NEAR(sums[2 * band + n], 994.0 * table[3 * band + n], 2e-5 * 994 * std::abs(table[3 * band + n]));
    EXPECT_EQ(sums[3 * band + n], table[4 * band + n]);
  }
}

TEST_P(MatrixKernelsTest, MaskAndSums) {
  const int64_t rows = 9, n = 21;
  const Numbers before = Random(rows * n, 6), y = Random(rows * n, 7);
  Numbers g = before, sums(n, 1.f);
  kernels_->mask(g.data(), y.data(), rows, n, sums.data());
  for (int64_t i = 0; i < rows * n; ++i) ASSERT_EQ(g[i], y[i] > 0 ? before[i] : 0.f);
  for (int64_t i = 0; i < n; ++i) {
    float want = 1;
    for (int64_t r = 0; r < rows; ++r) want += g[r * n + i];
    EXPECT_FLOAT_EQ(sums[i], want);
  }
  Numbers same = before;
  kernels_->mask(same.data(), nullptr, rows, n, nullptr);
  EXPECT_EQ(same, before);
}

// A run that went wrong has to show it.
TEST_P(MatrixKernelsTest, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Numbers a{1, nan}, w{1, 1}, bias{0};
  Numbers panels(kernels_->panels_size(1, 1)), y(2);
  kernels_->pack(w.data(), 1, 1, 1, 1, panels.data());
  kernels_->multiply(a.data(), 1, 2, panels.data(), 1, 1, bias.data(), true, y.data(), 1);
  EXPECT_EQ(y[0], 1);
  EXPECT_TRUE(std::isnan(y[1]));
  Numbers g{2, 3};
  kernels_->mask(g.data(), y.data(), 1, 2, nullptr);
  EXPECT_EQ(g, (Numbers{2, 3}));
  Numbers table(MatrixKernels::kBand, nan), sums(MatrixKernels::kBand);
  const int32_t index = 0;
  kernels_->add_rows(table.data(), &index, 1, 1, true, sums.data(), MatrixKernels::kBand);
  EXPECT_TRUE(std::isnan(sums[0]));
}

}  // namespace
}  // namespace anneal::nn
