// Weights of losses by their gradients: cases by hand, and random ones for pareto.py to find by trying every set of
// losses.
#include "worker/losses/pareto.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

namespace anneal::losses {
namespace {

using nlohmann::json;
using testing::DoubleNear;
using testing::ElementsAre;

at::Tensor Matrix(std::vector<double> values, int64_t n) { return at::tensor(values, at::kDouble).view({n, n}); }

TEST(Pareto, ByHand) {
  const auto near = [](double value) { return DoubleNear(value, 1e-9); };
  // Gradients of length 1 and 2 at right angles: the shortest mean has weights 4 : 1.
  EXPECT_THAT(ParetoWeights(Matrix({1, 0, 0, 4}, 2), {0, 0}), ElementsAre(near(0.8), near(0.2)));
  // A multiple of the gradients changes nothing.
  EXPECT_THAT(ParetoWeights(Matrix({1e-12, 0, 0, 4e-12}, 2), {0, 0}), ElementsAre(near(0.8), near(0.2)));
  // The least weights are inside of it: no other answer. Or not: the bound.
  EXPECT_THAT(ParetoWeights(Matrix({1, 0, 0, 4}, 2), {0.2, 0.1}), ElementsAre(near(0.8), near(0.2)));
  EXPECT_THAT(ParetoWeights(Matrix({1, 0, 0, 4}, 2), {0.2, 0.5}), ElementsAre(near(0.5), near(0.5)));
  // Gradients of one direction: all of the free weight goes to the shorter one.
  EXPECT_THAT(ParetoWeights(Matrix({1, 2, 2, 4}, 2), {0.2, 0.1}), ElementsAre(near(0.9), near(0.1)));
  EXPECT_THAT(ParetoWeights(Matrix({3}, 1), {0.25}), ElementsAre(near(1)));
}

TEST(Pareto, WhereAnyWeightsWouldDo) {
  const auto near = [](double value) { return DoubleNear(value, 1e-9); };
  EXPECT_THAT(ParetoWeights(at::zeros({2, 2}, at::kDouble), {0.2, 0.1}), ElementsAre(near(0.55), near(0.45)));
  // The same gradient twice.
  EXPECT_THAT(ParetoWeights(Matrix({4, 4, 4, 4}, 2), {0, 0}), ElementsAre(near(0.5), near(0.5)));
  for (const double wrong : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(ParetoWeights(Matrix({1, 0, 0, wrong}, 2), {0.2, 0}), ElementsAre(near(0.6), near(0.4)));
  }
}

TEST(Pareto, GradientsOfALossThatDoesNotDependOnAParameterAreZero) {
  const at::Tensor a = at::tensor({1.0f, 2.0f}).set_requires_grad(true), b = at::tensor({3.0f}).set_requires_grad(true);
  const std::vector<at::Tensor> losses{(a * a).sum() + 2 * b.sum(), (3 * a).sum()};
  const at::Tensor gram = GramOfGradients(losses, {a, b});
  EXPECT_TRUE(at::equal(gram, Matrix({4 + 16 + 4, 6 + 12, 6 + 12, 18}, 2))) << gram;
  EXPECT_FALSE(a.grad().defined());
  (losses[0] + losses[1]).backward();  // the graph is still there
  EXPECT_TRUE(at::equal(a.grad(), at::tensor({5.0f, 7.0f})));
}

TEST(Pareto, WritesRandomCasesForPythonToSolve) {
  at::manual_seed(5);
  json written = json::array();
  for (int64_t n = 2; n <= 5; ++n) {
    for (int round = 0; round < 40; ++round) {
      // Fewer parameters than losses now and then: the matrix is singular.
      const at::Tensor gradients = at::randn({n, 1 + round % 7}, at::kDouble) * at::rand({n, 1}, at::kDouble);
      const at::Tensor gram = at::mm(gradients, gradients.t()).contiguous();
      const at::Tensor least = at::rand({n}, at::kDouble) * (round % 2 == 0 ? 0.0 : 0.9 / static_cast<double>(n));
      const std::vector<double> c(least.const_data_ptr<double>(), least.const_data_ptr<double>() + n);
      const std::vector<double> weights = ParetoWeights(gram, c);
      EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 1, 1e-9);
      written.push_back(
          {{"gram", std::vector<double>(gram.const_data_ptr<double>(), gram.const_data_ptr<double>() + n * n)},
           {"least", c},
           {"weights", weights}});
    }
  }
  std::ofstream out("pareto.json");
  ASSERT_TRUE(out << written.dump());
}

}  // namespace
}  // namespace anneal::losses
