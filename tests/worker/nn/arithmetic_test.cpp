// The kernels that training may choose from: as exact as the stock ones, and the hand-written backward passes equal
// autograd's.
#include "worker/nn/arithmetic.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <limits>

#include "tests/worker/nn/with_arithmetic.h"
#include "worker/config/error.h"
#include "worker/nn/expert_mixture.h"
#include "worker/nn/factorization_machine.h"
#include "worker/nn/linear.h"

namespace anneal::nn {
namespace {

struct Layer {
  int64_t in, out;
};

class GemmError : public testing::TestWithParam<Layer> {};

// Layers of the benchmark's models, odd widths among them.
INSTANTIATE_TEST_SUITE_P(Layers, GemmError,
                         testing::Values(Layer{429, 512}, Layer{512, 256}, Layer{256, 128}, Layer{145, 64},
                                         Layer{64, 1}, Layer{256, 3}));

TEST_P(GemmError, IsAtMostTwiceTheStockKernels) {
  at::manual_seed(1);
  const auto [in, out] = GetParam();
  const int64_t rows = 777;
  const at::Tensor x = at::randn({rows, in}), weight = at::randn({out, in}), bias = at::randn({out}),
                   g = at::randn({rows, out});
  const at::Tensor y = at::relu(at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble)));
  const at::Tensor gx = at::mm(g.to(at::kDouble), weight.to(at::kDouble));
  const at::Tensor gw = at::mm(g.to(at::kDouble).t(), x.to(at::kDouble));
  auto check = [](const char* what, const std::function<at::Tensor(Gemm)>& product, const at::Tensor& exact) {
    const double stock = RelativeError(product(Gemm::kStock), exact);
    EXPECT_LT(stock, 1e-5) << what;
    for (const Gemm kernel : {Gemm::kTransposed, Gemm::kOneDnn, Gemm::kBlocked}) {
      const at::Tensor got = product(kernel);
      ASSERT_EQ(got.sizes(), exact.sizes()) << what;
      EXPECT_TRUE(got.is_contiguous()) << what;
      EXPECT_LE(RelativeError(got, exact), 2 * stock + 1e-8) << what << " by kernel " << static_cast<int>(kernel);
    }
  };
  check(
      "y", [&](Gemm kernel) { return LinearKernels{kernel}.Forward(x, weight, bias, true); }, y);
  const auto blocked = [&](auto which) {
    return LinearKernels{Gemm::kStock, Gemm::kBlocked, Gemm::kBlocked}.Backward(g, {}, x, weight, true, true).*which;
  };
  check(
      "g W",
      [&](Gemm kernel) {
        if (kernel == Gemm::kBlocked) return blocked(&LinearGradients::x);
        return LinearKernels{Gemm::kStock, kernel}.InputGradient(g, weight);
      },
      gx);
  check(
      "g' x",
      [&](Gemm kernel) {
        if (kernel == Gemm::kBlocked) return blocked(&LinearGradients::weight);
        return LinearKernels{Gemm::kStock, Gemm::kStock, kernel}.WeightGradient(g, x);
      },
      gw);
}

TEST(FusedLinear, GradientsAgreeWithAutograd) {
  at::manual_seed(2);
  Linear layer(45, 32);
  const at::Tensor x = at::randn({500, 45}).set_requires_grad(true), g = at::randn({500, 32}), kept = g.clone();
  std::vector<at::Tensor> inputs{x};
  for (const auto& parameter : layer.NamedParameters()) inputs.push_back(parameter.tensor);
  auto gradients = [&](const std::string& text) {
    const Using arithmetic(text);
    return torch::autograd::grad({layer.ForwardRelu(x)}, inputs, {g});
  };
  const auto want = gradients("reference");
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    for (const char* text : {"onednn", "blocked", "32x45:stock,onednn,transposed", "32x45:stock,stock,stock"}) {
      const auto got = gradients(text);
      for (size_t i = 0; i < want.size(); ++i)
        EXPECT_TRUE(at::allclose(got[i], want[i], 1e-4, 1e-5)) << text << " " << i << " " << threads;
      const auto again = gradients(text);
      for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::equal(got[i], again[i])) << text << " " << i;
    }
  }
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(g, kept));  // somebody else's is left as it was
}

// A model that went wrong has to show it, whatever kernels were the fastest.
TEST(LinearKernels, NanStaysNan) {
  at::manual_seed(8);
  at::Tensor x = at::randn({40, 20});
  const at::Tensor weight = at::randn({24, 20}), bias = at::randn({24});
  x[5][3] = std::numeric_limits<float>::quiet_NaN();
  for (const Gemm gemm : {Gemm::kStock, Gemm::kOneDnn, Gemm::kBlocked}) {
    const at::Tensor y = LinearKernels{gemm}.Forward(x, weight, bias, true);
    EXPECT_TRUE(at::isnan(y[5]).all().item<bool>()) << static_cast<int>(gemm);
    EXPECT_EQ(at::isnan(y).sum().item<int64_t>(), 24) << static_cast<int>(gemm);
  }
}

// A gradient that nobody else has is masked in place; any other stays as it was.
TEST(LinearKernels, ChangeOnlyAGradientOfTheirOwn) {
  at::manual_seed(7);
  const at::Tensor x = at::randn({300, 20}), weight = at::randn({24, 20}), y = at::relu(at::randn({300, 24}));
  const at::Tensor want = at::randn({300, 24});
  for (const Gemm gemm : {Gemm::kStock, Gemm::kOneDnn, Gemm::kBlocked}) {
    const LinearKernels kernels{gemm, gemm, gemm};
    at::Tensor own = want.clone();
    const at::Tensor memory = at::from_blob(own.data_ptr(), own.sizes());  // stays while this test holds a storage
    const c10::Storage storage = own.storage();
    kernels.Backward(std::move(own), y, x, weight, true, true);
    EXPECT_TRUE(at::equal(memory, want)) << "a second owner of the memory";
    const at::Tensor shared = want.clone();
    kernels.Backward(shared, y, x, weight, true, true);
    EXPECT_TRUE(at::equal(shared, want)) << "a second owner of the tensor";
    std::vector<float> buffer(want.numel());
    at::Tensor alone = at::from_blob(buffer.data(), want.sizes()).copy_(want);
    kernels.Backward(std::move(alone), y, x, weight, true, true);
    EXPECT_TRUE(at::equal(at::from_blob(buffer.data(), want.sizes()), at::threshold_backward(want, y, 0)));
  }
}

TEST(FusedLinear, ChainsAndBranchesAgreeWithAutograd) {
  at::manual_seed(6);
  Linear first(20, 24), second(24, 24, /*bias=*/false), third(24, 3);
  const at::Tensor x = at::randn({300, 20}), weights = at::randn({300, 3});
  std::vector<at::Tensor> inputs;
  for (const Linear* layer : {&first, &second, &third}) {
    for (const auto& parameter : layer->NamedParameters()) inputs.push_back(parameter.tensor);
  }
  inputs.emplace_back();
  auto gradients = [&](const std::string& text) {
    const Using arithmetic(text);
    const at::Tensor h = first.ForwardRelu(x), both = second.ForwardRelu(h) + h.narrow(1, 0, 24);
    inputs.back() = h;  // its gradient is somebody's in the end
    auto all = torch::autograd::grad({(third.Forward(both) * weights).sum()}, inputs);
    at::Tensor seen;  // and one that a hook keeps
    const at::Tensor hidden = second.ForwardRelu(first.ForwardRelu(x));
    hidden.register_hook([&seen](const at::Tensor& gradient) { seen = gradient; });
    all.push_back(torch::autograd::grad({(third.Forward(hidden) * weights).sum()}, {inputs[0]})[0]);
    all.push_back(seen);
    return all;
  };
  const auto want = gradients("reference");
  for (const char* text : {"onednn", "blocked", "24x24:blocked,blocked,blocked"}) {
    const auto got = gradients(text);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::allclose(got[i], want[i], 1e-4, 1e-4)) << text << " " << i;
  }
}

TEST(FactorizationMachine, OnePassAgreesWithTheFormula) {
  at::manual_seed(3);
  for (const int64_t dim : {1, 4, 16, 33}) {
    // A slice of a wider matrix, as the model passes it.
    const at::Tensor wide = at::randn({70, 5 + 9 * dim}).set_requires_grad(true), x = wide.narrow(1, 2, 9 * dim);
    const at::Tensor g = at::randn({70, dim});
    const at::Tensor want = FactorizationMachine(x, 9, dim),
                     want_gradient = torch::autograd::grad({want}, {wide}, {g})[0];
    const Using arithmetic("onednn");
    const at::Tensor got = FactorizationMachine(x, 9, dim), got_gradient = torch::autograd::grad({got}, {wide}, {g})[0];
    EXPECT_TRUE(at::allclose(got, want, 1e-4, 1e-4)) << dim;
    EXPECT_TRUE(at::allclose(got_gradient, want_gradient, 1e-4, 1e-5)) << dim;
  }
}

TEST(MixExperts, OnePassAgreesWithTheFormula) {
  at::manual_seed(5);
  std::vector<at::Tensor> experts, gates, seeds;
  for (int e = 0; e < 3; ++e) experts.push_back(at::randn({65, 21}).set_requires_grad(true));
  for (int t = 0; t < 2; ++t) gates.push_back(at::softmax(at::randn({65, 3}), 1).set_requires_grad(true));
  for (int t = 0; t < 2; ++t) seeds.push_back(at::randn({65, 21}));
  std::vector<at::Tensor> inputs = experts;
  inputs.insert(inputs.end(), gates.begin(), gates.end());
  const auto want = MixExperts(experts, gates), want_gradients = torch::autograd::grad(want, inputs, seeds);
  const Using arithmetic("onednn");
  const auto got = MixExperts(experts, gates), got_gradients = torch::autograd::grad(got, inputs, seeds);
  for (size_t t = 0; t < want.size(); ++t) EXPECT_TRUE(at::allclose(got[t], want[t], 1e-5, 1e-6)) << t;
  for (size_t i = 0; i < want_gradients.size(); ++i) {
    EXPECT_TRUE(at::allclose(got_gradients[i], want_gradients[i], 1e-4, 1e-5)) << i;
  }
}

TEST(Arithmetic, IsReadBackFromItsText) {
  auto& arithmetic = Arithmetic::OfProcess();
  EXPECT_TRUE(arithmetic.reference());  // the tests' environment asks for it
  EXPECT_TRUE(arithmetic.forced());
  for (const char* text : {"64x145:blocked,blocked,blocked 256x512:stock,onednn,transposed 512x429:onednn,stock,onednn",
                           "sum:5.3 64x145:stock,stock,stock", "onednn", "blocked", "repeated", "reference"}) {
    arithmetic.FromText(text);
    EXPECT_EQ(arithmetic.ToText(), text);
  }
  arithmetic.FromText("512x429:onednn,stock,transposed");
  EXPECT_EQ(arithmetic.Find(512, 429).forward, Gemm::kOneDnn);
  EXPECT_EQ(arithmetic.Find(512, 429).weight_gradient, Gemm::kTransposed);
  EXPECT_EQ(arithmetic.Find(429, 512).forward, Gemm::kStock);
  EXPECT_FALSE(arithmetic.computes_repeated());  // a checkpoint of a version that did not
  EXPECT_FALSE(arithmetic.PaysToRepeat(1000, 1, 1000));
  arithmetic.FromText("sum:5 512x429:onednn,stock,transposed");
  EXPECT_TRUE(arithmetic.PaysToRepeat(16, 600, 1000));  // saves 6.4 of 16 multiply-adds for 5
  EXPECT_FALSE(arithmetic.PaysToRepeat(16, 700, 1000));
  EXPECT_FALSE(arithmetic.PaysToRepeat(4, 1, 1000));
  arithmetic.FromText("512x429:onednn,stock,transposed");
  for (const char* bad : {"512x429", "512x429:onednn,stock", "axb:stock,stock,stock", "1x1:stock,stock,blis", "fast",
                          "1x1:stock,stock,blocked", "1x1:blocked,blocked,stock", "1x1:stock,stock,stockx",
                          "-1x1:stock,stock,stock", "0x1:stock,stock,stock", "sum:", "sum:0", "sum:-1", "sum:nan",
                          "sum:inf", "sum:5x", "9999999999999x1:stock,stock,stock", "1x1:transposed,stock,stock"}) {
    EXPECT_THROW(arithmetic.FromText(bad), DataError) << bad;
  }
  EXPECT_EQ(arithmetic.ToText(), "512x429:onednn,stock,transposed");  // a bad text changes nothing
  arithmetic.FromText("reference");
}

}  // namespace
}  // namespace anneal::nn
