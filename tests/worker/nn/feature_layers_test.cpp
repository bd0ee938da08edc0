// Layers that make vectors of numbers, and variational dropout: outputs and gradients on random rows for
// feature_layers.py to compute with torch.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "tests/worker/models/written.h"
#include "worker/nn/dense_embedding.h"
#include "worker/nn/variational_dropout.h"

namespace anneal::nn {
namespace {

using models::Written;
using nlohmann::json;

/// The case of one output: what it was made from, and what came of it.
json Case(const std::string& name, const Module& module, const at::Tensor& x, const at::Tensor& output) {
  const at::Tensor seed = at::randn_like(output);
  (output * seed).sum().backward();
  json written{{"name", name}, {"output", Written(output)}, {"seed", Written(seed)}, {"x", Written(x)}};
  written["x"]["gradient"] = Written(x.grad())["values"];
  for (const auto& [parameter, tensor] : module.NamedParameters()) {
    written["parameters"][parameter] = Written(tensor);
    written["parameters"][parameter]["gradient"] = Written(tensor.grad())["values"];
    tensor.mutable_grad() = at::Tensor();
  }
  return written;
}

at::Tensor Rows(int64_t columns) { return at::randn({37, columns}).set_requires_grad(true); }

TEST(FeatureLayers, WriteOutputsAndGradientsForTorchToCompare) {
  at::manual_seed(9);
  json written = json::array();
  const auto embed = [&](const std::string& name, const DenseEmbedding& layer, int64_t columns) {
    const at::Tensor x = Rows(columns);
    written.push_back(Case(name, layer, x, layer.Forward(x)));
  };
  embed("autodis", AutoDis(3, 5, 4, 0.7, 0.2), 3);
  embed("autodis", AutoDis(1, 2, 3, 0.7, 0.2), 1);
  embed("number", NumberProjection(3, 4), 3);
  embed("numbers", NumbersProjection(3, 4), 3);

  VariationalDropout dropout({4, 1, 7});
  const at::Tensor x = Rows(12), noise = at::rand({37, 3});
  noise[0][0] = 0;
  written.push_back(Case("drop", dropout, x, dropout.Drop(x, noise)));
  written.back()["noise"] = Written(noise);
  const at::Tensor unread = Rows(12), y = Rows(12);
  written.push_back(Case("penalty", dropout, unread, dropout.Penalty(0.03, 37) + 0 * unread.sum()));
  dropout.Train(false);
  written.push_back(Case("keep", dropout, y, dropout.Forward(y)));
  std::ofstream out("feature_layers.json");
  ASSERT_TRUE(out << written.dump());
}

TEST(VariationalDropout, NoiseIsOfEachRowAndFeature) {
  at::manual_seed(3);
  const VariationalDropout dropout({4, 1, 7});
  const at::Tensor y = dropout.Forward(at::ones({500, 12}));
  for (const auto& [first, width] : {std::pair<int64_t, int64_t>{0, 4}, {5, 7}}) {
    for (int64_t d = 1; d < width; ++d) EXPECT_TRUE(at::equal(y.select(1, first), y.select(1, first + d)));
  }
  EXPECT_GT(y.select(1, 0).std().item<double>(), 0.01);
  EXPECT_FALSE(at::equal(y.select(1, 0), y.select(1, 5)));
  const auto buffers = dropout.NamedBuffers();
  ASSERT_EQ(buffers.size(), 1u);
  EXPECT_EQ(buffers[0].name, "feature_dim_repeat");
  EXPECT_TRUE(at::equal(buffers[0].tensor, at::tensor({4, 1, 7}, at::kLong)));
}

TEST(DenseEmbedding, PartsOfParametersShareTheirMemory) {
  const AutoDis autodis(2, 3, 4, 0.5, 1);
  for (const auto& [name, parameter] : autodis.NamedParameters()) {
    at::Tensor part = autodis.PartOf(parameter.detach(), 1);
    part.fill_(7);
    EXPECT_TRUE(at::equal(parameter[1], at::full_like(parameter[1], 7))) << name;
    EXPECT_FALSE(at::equal(parameter[0], at::full_like(parameter[0], 7))) << name;
  }
}

}  // namespace
}  // namespace anneal::nn
