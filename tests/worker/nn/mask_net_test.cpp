// MaskNet's blocks one after the other (the golden runs have them side by side), and their widths.
#include "worker/nn/mask_net.h"

#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <map>

#include "worker/config/error.h"

namespace anneal::nn {
namespace {

tzrec::protos::MaskNetModule Config(const std::string& text) {
  tzrec::protos::MaskNetModule config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

std::map<std::string, at::Tensor> State(const Module& module) {
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : module.NamedParameters()) state[name] = tensor;
  return state;
}

TEST(MaskNet, SerialBlocksTakeWhatTheOneBeforeGives) {
  at::manual_seed(3);
  MaskNet net(6, Config("n_mask_blocks: 2 use_parallel: false "
                        "mask_block { reduction_ratio: 0 aggregation_dim: 7 hidden_dim: 4 }"));
  EXPECT_EQ(net.output_dim(), 4);
  auto state = State(net);
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    return at::linear(x, state.at(name + ".weight"), state.at(name + ".bias"));
  };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::layer_norm(x, {x.size(1)}, state.at(name + ".weight"), state.at(name + ".bias"), 1e-5);
  };
  const at::Tensor e = at::randn({5, 6});
  at::Tensor h = norm(e, "ln_emb");
  for (const std::string block : {"mask_blocks.0.", "mask_blocks.1."}) {
    const at::Tensor mask = linear(at::relu(linear(e, block + "mask_generator.0")), block + "mask_generator.2");
    ASSERT_EQ(mask.sizes(), h.sizes());
    h = at::relu(norm(linear(h * mask, block + "ffn.0"), block + "ffn.1"));
  }
  EXPECT_TRUE(at::allclose(net.Forward(e), h));
  EXPECT_EQ(state.at("mask_blocks.1.mask_generator.0.weight").sizes(), (std::vector<int64_t>{7, 6}));
}

// The ratio is a decimal: as a float32, 0.7 of 10 columns would be 6.
TEST(MaskNet, WidthBetweenTheMasksLayers) {
  EXPECT_EQ(State(MaskNet(10, Config("n_mask_blocks: 1 mask_block { reduction_ratio: 0.7 hidden_dim: 4 }")))
                .at("mask_blocks.0.mask_generator.0.weight")
                .size(0),
            7);
  EXPECT_THROW(MaskNet(3, Config("n_mask_blocks: 1 mask_block { reduction_ratio: 0.2 hidden_dim: 4 }")), ConfigError);
}

}  // namespace
}  // namespace anneal::nn
