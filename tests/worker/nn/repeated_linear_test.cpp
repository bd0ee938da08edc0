// Linear layers that compute each distinct row once: as exact as the stock kernels, and the gradients of a row's
// holders add up to what autograd gives each of them.
#include "worker/nn/repeated_linear.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <list>
#include <random>

#include "tests/worker/nn/with_arithmetic.h"
#include "worker/nn/linear.h"

namespace anneal::nn {
namespace {

/// Columns of a matrix: as many different rows in them at the most, 0: all differ and nothing is said about them.
struct Columns {
  int64_t width, distinct;
};

struct Case {
  int64_t rows, out;
  std::vector<Columns> columns;
};

/// A matrix and what is known of it.
struct Matrix {
  at::Tensor x;
  std::list<std::vector<int32_t>> lists;  // that `known` points to
  std::vector<RepeatedColumns> known;

  explicit Matrix(const Case& c) {
    std::minstd_rand random(3);
    std::vector<at::Tensor> parts;
    int64_t at = 0;
    for (const Columns& columns : c.columns) {
      at::Tensor part = at::randn({c.rows, columns.width});
      if (columns.distinct > 0) {
        std::vector<int32_t>&of_row = lists.emplace_back(), &holder = lists.emplace_back();
        std::vector<int32_t> number(columns.distinct, -1);
        for (int64_t b = 0; b < c.rows; ++b) {
          int32_t& mine = number[random() % columns.distinct];
          if (mine < 0) {
            mine = static_cast<int32_t>(holder.size());
            holder.push_back(static_cast<int32_t>(b));
          }
          of_row.push_back(mine);
          part[b] = part[holder[mine]].clone();
        }
        known.push_back({at, columns.width, &of_row, &holder});
      }
      at += columns.width;
      parts.push_back(part);
    }
    x = at::cat(parts, 1);
  }

  RepeatedRows Join() const {
    // In any order.
    return JoinColumns({known.rbegin(), known.rend()}, x.size(0));
  }

  /// A gradient of x as far as what x was made from can tell: added up over the holders of each distinct row.
  at::Tensor AddUp(const at::Tensor& gradient) const {
    at::Tensor sums = gradient.to(at::kDouble).clone();
    for (const RepeatedColumns& of : known) {
      const at::Tensor columns = sums.narrow(1, of.column, of.width), added = at::zeros_like(columns);
      std::vector<int64_t> first;
      for (const int32_t number : *of.of_row) first.push_back((*of.holder)[number]);
      columns.copy_(added.index_add_(0, at::tensor(first), columns));
    }
    return sums;
  }
};

const std::vector<Case> kCases = {
    {777, 512, {{13, 0}, {16, 3}, {16, 100}, {16, 400}, {16, 5000}}},
    {300, 64, {{16, 10}, {10, 20}, {24, 200}}},              // nothing else
    {129, 100, {{4, 2}, {1, 0}, {1, 7}, {33, 50}, {5, 0}}},  // odd widths; outputs that no band fits
    {1, 33, {{8, 1}, {3, 0}}},
    {2000, 40, {{7, 1}, {16, 1999}}},
};

TEST(RepeatedLinear, IsAsExactAsTheStockKernels) {
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    for (const Case& c : kCases) {
      at::manual_seed(1);
      const Matrix matrix(c);
      const RepeatedRows repeated = matrix.Join();
      const at::Tensor &x = matrix.x, weight = at::randn({c.out, x.size(1)}), bias = at::randn({c.out}),
                       g = at::randn({c.rows, c.out});
      const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
      for (const bool relu : {false, true}) {
        const LinearKernels stock;
        const at::Tensor y = RepeatedForward(x, repeated, weight, bias, relu);
        at::Tensor exact = at::linear(wide(x), wide(weight), wide(bias));
        if (relu) exact = exact.relu();
        const double error = RelativeError(stock.Forward(x, weight, bias, relu), exact);
        EXPECT_LE(RelativeError(y, exact), 2 * error + 1e-8) << c.out;
        EXPECT_TRUE(y.is_contiguous());
        const at::Tensor mask = relu ? y : at::Tensor(), masked = relu ? g * (y > 0) : g;
        const LinearGradients got = RepeatedBackward(g, mask, x, repeated, weight, true, true),
                              of = stock.Backward(g, mask, x, weight, true, true);
        const at::Tensor gx = matrix.AddUp(wide(masked).mm(wide(weight))), gw = wide(masked).t().mm(wide(x)),
                         gb = wide(masked).sum(0);
        const auto check = [&](const char* what, const at::Tensor& ours, const at::Tensor& theirs,
                               const at::Tensor& want) {
          EXPECT_EQ(ours.sizes(), want.sizes()) << what;
          EXPECT_LE(RelativeError(ours, want), 2 * RelativeError(theirs, want) + 2e-8) << what << " " << c.out;
        };
        check("x", got.x, matrix.AddUp(of.x), gx);
        check("weight", got.weight, of.weight, gw);
        EXPECT_LE(RelativeError(got.bias, gb), 3e-7);  // sums of 126 rows, and their sum; the stock one is pairwise
        // Holders after the first have nothing left.
        for (const RepeatedColumns& known : matrix.known) {
          for (int64_t b = 0; b < c.rows; ++b) {
            if ((*known.holder)[(*known.of_row)[b]] == b) continue;
            ASSERT_EQ(got.x[b].narrow(0, known.column, known.width).abs().sum().item<float>(), 0) << b;
          }
        }
        // A gradient of its own is masked in place.
        EXPECT_TRUE(at::equal(RepeatedBackward(g.clone(), mask, x, repeated, weight, true, true).x, got.x));
        const LinearGradients less = RepeatedBackward(g, mask, x, repeated, weight, false, false);
        EXPECT_FALSE(less.x.defined() || less.bias.defined());
        EXPECT_TRUE(at::equal(less.weight, got.weight));
      }
    }
  }
  at::set_num_threads(1);
}

TEST(RepeatedLinear, TakesRowsOfAWiderMatrix) {
  at::manual_seed(2);
  const Matrix matrix(kCases[1]);
  const at::Tensor weight = at::randn({64, matrix.x.size(1)}), g = at::randn({300, 64});
  const at::Tensor view =
      at::cat({at::randn({300, 5}), matrix.x, at::randn({300, 2})}, 1).narrow(1, 5, matrix.x.size(1));
  EXPECT_TRUE(at::equal(RepeatedForward(view, matrix.Join(), weight, {}, false),
                        RepeatedForward(matrix.x, matrix.Join(), weight, {}, false)));
  EXPECT_TRUE(at::equal(RepeatedBackward(g, {}, view, matrix.Join(), weight, true, true).weight,
                        RepeatedBackward(g, {}, matrix.x, matrix.Join(), weight, true, true).weight));
}

TEST(RepeatedLinear, LayersUseWhatIsSaidOfTheirInput) {
  at::manual_seed(3);
  const Matrix matrix(kCases[0]);
  const at::Tensor x = matrix.x.clone().set_requires_grad(true);
  int asked = 0;
  SetRepeatedRows(x, [&] {
    ++asked;
    return matrix.Join();
  });
  Linear layer(x.size(1), 512), narrow(x.size(1), 3);
  const at::Tensor g = at::randn({777, 512}), small = at::randn({777, 3});
  const auto gradients = [&] {
    return torch::autograd::grad({layer.ForwardRelu(x), narrow.Forward(x)}, {x, layer.weight(), narrow.weight()},
                                 {g, small});
  };
  const auto want = gradients();
  EXPECT_EQ(asked, 0);  // the reference's arithmetic
  const Using arithmetic("repeated");
  const auto got = gradients();
  EXPECT_EQ(asked, 1);
  EXPECT_FALSE(at::allclose(got[0], want[0], 1e-3, 1e-3));
  EXPECT_TRUE(at::allclose(matrix.AddUp(got[0]), matrix.AddUp(want[0]), 1e-4, 1e-3));
  for (const size_t i : {1, 2}) EXPECT_TRUE(at::allclose(got[i], want[i], 1e-4, 1e-3)) << i;
}

TEST(RepeatedRows, AreOfATensorAsItIs) {
  const Matrix matrix(kCases[1]);
  const at::Tensor x = matrix.x.clone();
  EXPECT_EQ(FindRepeatedRows(x), nullptr);
  SetRepeatedRows(x, [&] { return matrix.Join(); });
  ASSERT_NE(FindRepeatedRows(x), nullptr);
  EXPECT_EQ(FindRepeatedRows(x), FindRepeatedRows(x));
  EXPECT_EQ(FindRepeatedRows(x * 1), nullptr);
  EXPECT_EQ(FindRepeatedRows(x.narrow(0, 0, 10)), nullptr);
  const at::Tensor same = x.detach();
  EXPECT_EQ(FindRepeatedRows(same), FindRepeatedRows(x));
  x.mul_(2);
  EXPECT_EQ(FindRepeatedRows(x), nullptr);
  EXPECT_EQ(FindRepeatedRows(same), nullptr);
}

// A run that went wrong has to show it.
TEST(RepeatedLinear, NanStaysNan) {
  at::manual_seed(4);
  Case c = kCases[1];
  Matrix matrix(c);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<int32_t>&of_row = *matrix.known[0].of_row, &holder = *matrix.known[0].holder;
  int64_t poisoned = 0;
  for (int64_t b = 0; b < c.rows; ++b) {
    if (of_row[b] != of_row[0]) continue;
    matrix.x[b][0] = nan;
    ++poisoned;
  }
  ASSERT_GT(poisoned, 1);
  ASSERT_EQ(holder[of_row[0]], 0);
  const at::Tensor y = RepeatedForward(matrix.x, matrix.Join(), at::randn({64, matrix.x.size(1)}), {}, true);
  EXPECT_EQ(at::isnan(y).sum().item<int64_t>(), poisoned * 64);
  at::Tensor g = at::randn({c.rows, 64});
  g[7][5] = nan;
  const LinearGradients got =
      RepeatedBackward(g, {}, matrix.x.nan_to_num(), matrix.Join(), at::randn({64, matrix.x.size(1)}), true, true);
  EXPECT_TRUE(at::isnan(got.x[holder[of_row[7]]].narrow(0, 0, 16)).all().item<bool>());
  EXPECT_EQ(at::isnan(got.weight).sum().item<int64_t>(), matrix.x.size(1));
}

}  // namespace
}  // namespace anneal::nn
