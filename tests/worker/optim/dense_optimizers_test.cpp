// Every dense optimizer with gradients made from a formula; dense_optimizers.py runs torch.optim on the same ones and
// compares. Usage of the output: one line per optimizer and step, "<name> <step> <values...>" with full precision.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iomanip>

#include "worker/config/error.h"
#include "worker/optim/dense_ema.h"
#include "worker/optim/grad_scaler.h"
#include "worker/optim/gradient_clipping.h"
#include "worker/optim/optimizer_groups.h"

namespace anneal::optim {
namespace {

using nn::NamedTensor;

NamedTensor Parameter(const std::string& name, const std::vector<float>& values) {
  return {name, at::tensor(values).set_requires_grad(true)};
}

tzrec::protos::DenseOptimizer Config(const std::string& text) {
  tzrec::protos::DenseOptimizer config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text + " constant_learning_rate {}", &config)) << text;
  return config;
}

/// The formulas of dense_optimizers.py.
float InitialValue(int i) { return static_cast<float>(std::sin(i + 1.0)); }
float Gradient(int step, int i) {
  const double g = std::sin(1.7 * step + 0.9 * i) * (i % 3 == 0 ? 0.01 : 1.0);
  return i == 5 && step % 2 == 1 ? 0.0f : static_cast<float>(g);
}

TEST(DenseOptimizers, WriteTheirStepsForTorchToCompare) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"sgd", "sgd_optimizer { lr: 0.05 momentum: 0 }"},
      {"sgd_momentum", "sgd_optimizer { lr: 0.05 momentum: 0.9 dampening: 0.1 weight_decay: 0.01 }"},
      {"sgd_nesterov", "sgd_optimizer { lr: 0.05 momentum: 0.8 nesterov: true weight_decay: 0.02 }"},
      {"sgd_fused", "sgd_optimizer { lr: 0.05 momentum: 0.8 nesterov: true weight_decay: 0.02 fused: true }"},
      {"adagrad", "adagrad_optimizer { lr: 0.05 initial_accumulator_value: 0.1 weight_decay: 0.01 }"},
      {"adagrad_fused", "adagrad_optimizer { lr: 0.05 initial_accumulator_value: 0.1 weight_decay: 0.01 fused: true }"},
      {"adam", "adam_optimizer { lr: 0.01 beta1: 0.8 beta2: 0.99 weight_decay: 0.02 }"},
      {"adam_amsgrad", "adam_optimizer { lr: 0.01 amsgrad: true eps: 1e-6 }"},
      {"adam_fused", "adam_optimizer { lr: 0.01 weight_decay: 0.02 fused: true }"},
      {"adamw", "adamw_optimizer { lr: 0.01 weight_decay: 0.1 }"},
      {"adamw_fused", "adamw_optimizer { lr: 0.01 weight_decay: 0.1 fused: true }"},
      {"adadelta", "adadelta_optimizer { lr: 0.5 rho: 0.9 eps: 1e-5 weight_decay: 0.01 }"},
      {"rmsprop", "rmsprop_optimizer { lr: 0.01 alpha: 0.95 weight_decay: 0.01 }"}};
  std::ofstream out("steps.txt");
  out << std::setprecision(9);
  for (const auto& [name, text] : cases) {
    std::vector<float> values;
    for (int i = 0; i < 12; ++i) values.push_back(InitialValue(i));
    NamedTensor parameter = Parameter("p", values);
    const auto optimizer = MakeDenseOptimizer(Config(text), {parameter});
    for (int step = 0; step < 10; ++step) {
      std::vector<float> gradients;
      for (int i = 0; i < 12; ++i) gradients.push_back(Gradient(step, i));
      parameter.tensor.mutable_grad() = at::tensor(gradients);
      optimizer->Step(optimizer->base_learning_rate() * (step < 5 ? 1.0 : 0.5));
      out << name << " " << step;
      for (int i = 0; i < 12; ++i) out << " " << parameter.tensor.const_data_ptr<float>()[i];
      out << "\n";
    }
  }
  ASSERT_TRUE(out.flush());
}

TEST(PartOptimizers, FirstWholeMatchWins) {
  const auto config = Config(R"(adam_optimizer { lr: 0.1 }
      part_optimizers { sgd_optimizer { lr: 0.2 } regex_pattern: "model\\.(?:a|b).*" }
      part_optimizers { sgd_optimizer { lr: 0.3 } regex_pattern: "a" }
      part_optimizers { sgd_optimizer { lr: 0.4 } regex_pattern: ".*(?<!w)bias" })");
  EXPECT_EQ(AssignParts(config, {"model.a.bias", "xa", "a", "model.c.bias", "model.c.wbias", "model.c"}),
            (std::vector<int>{0, -1, 1, 2, -1, -1}));
}

TEST(PartOptimizers, UnmatchedPartsAreDroppedAndSchedulesInherited) {
  auto config = Config(R"(adam_optimizer { lr: 0.1 }
      part_optimizers { sgd_optimizer { lr: 0.2 } regex_pattern: "none" }
      part_optimizers { sgd_optimizer { lr: 0.4 } regex_pattern: "b" })");
  config.mutable_exponential_decay_learning_rate()->set_decay_size(1);
  config.mutable_exponential_decay_learning_rate()->set_decay_factor(0.5);
  const OptimizerGroups groups(config, {Parameter("a", {1}), Parameter("b", {1})});
  ASSERT_EQ(groups.groups().size(), 2u);
  EXPECT_EQ(groups.groups()[1].part, 1);
  EXPECT_DOUBLE_EQ(groups.groups()[0].schedule.rate(2), 0.025);
  EXPECT_DOUBLE_EQ(groups.groups()[1].schedule.rate(2), 0.1);
}

TEST(PartOptimizers, FaultsNameTheField) {
  const auto message = [](const std::string& part) -> std::string {
    try {
      OptimizerGroups(Config("adam_optimizer { lr: 0.1 } part_optimizers { sgd_optimizer { lr: 0.2 } " + part + " }"),
                      {Parameter("a", {1})});
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message("regex_pattern: \"(a\""), testing::HasSubstr("part_optimizers[0].regex_pattern"));
  EXPECT_THAT(message("regex_pattern: \".*\""), testing::HasSubstr("no parameter"));
}

std::vector<NamedTensor> WithGradients(const std::vector<std::vector<float>>& gradients) {
  std::vector<NamedTensor> parameters;
  for (const auto& gradient : gradients) {
    parameters.push_back(Parameter("p" + std::to_string(parameters.size()), std::vector<float>(gradient.size(), 0)));
    parameters.back().tensor.mutable_grad() = at::tensor(gradient);
  }
  return parameters;
}

TEST(GradientClipping, NormIsTakenOverAllParameters) {
  tzrec::protos::GradClipping config;
  config.set_clipping_type("Norm");
  config.set_max_gradient(2.5f);
  auto parameters = WithGradients({{3, 0}, {-4}});
  GradientClipping(config).Apply(parameters);
  EXPECT_NEAR(parameters[0].tensor.grad()[0].item<double>(), 1.5, 1e-6);
  EXPECT_NEAR(parameters[1].tensor.grad()[0].item<double>(), -2.0, 1e-6);
  EXPECT_NEAR(GradientNorm(parameters), 2.5, 1e-6);
  GradientClipping(config).Apply(parameters);  // within the bound: nothing changes
  EXPECT_NEAR(GradientNorm(parameters), 2.5, 1e-5);
  config.set_norm_type(INFINITY);
  parameters = WithGradients({{3, 0}, {-5}});
  GradientClipping(config).Apply(parameters);
  EXPECT_NEAR(parameters[0].tensor.grad()[0].item<double>(), 1.5, 1e-6);
}

TEST(GradientClipping, ValueClampsEachElementAndUnknownTypesFail) {
  tzrec::protos::GradClipping config;
  config.set_clipping_type("value");
  config.set_max_gradient(1);
  auto parameters = WithGradients({{3, -0.5f}, {-4}});
  GradientClipping(config).Apply(parameters);
  EXPECT_TRUE(at::equal(parameters[0].tensor.grad(), at::tensor({1.0f, -0.5f})));
  EXPECT_TRUE(at::equal(parameters[1].tensor.grad(), at::tensor({-1.0f})));
  config.set_clipping_type("clip");
  EXPECT_THROW(GradientClipping{config}, ConfigError);
}

TEST(GradScaler, GrowsAndBacksOff) {
  tzrec::protos::GradScaler config;
  config.set_init_scale(8);
  config.set_growth_interval(2);
  GradScaler scaler(config);
  auto parameters = WithGradients({{16, 8}});
  EXPECT_FALSE(scaler.Unscale(parameters));
  EXPECT_TRUE(at::equal(parameters[0].tensor.grad(), at::tensor({2.0f, 1.0f})));
  scaler.Update(false);
  EXPECT_EQ(scaler.scale(), 8);
  scaler.Update(false);
  EXPECT_EQ(scaler.scale(), 16);
  parameters = WithGradients({{1}, {INFINITY}});
  EXPECT_TRUE(scaler.Unscale(parameters));
  scaler.Update(true);
  EXPECT_EQ(scaler.scale(), 8);
  EXPECT_EQ(scaler.growth_tracker(), 0);
  // However long it lasts, the next good gradients survive it.
  for (int i = 0; i < 400; ++i) scaler.Update(true);
  EXPECT_TRUE(std::isfinite(scaler.inverse_scale()));
  parameters = WithGradients({{0}});
  EXPECT_FALSE(scaler.Unscale(parameters));
  EXPECT_EQ(parameters[0].tensor.grad().item<float>(), 0);
  scaler.Restore(0, 0);
  EXPECT_TRUE(std::isfinite(scaler.inverse_scale()));
  config.set_init_scale(1e-45f);
  EXPECT_THROW(GradScaler{config}, ConfigError);
}

TEST(DenseEma, CopiesFirstThenAveragesAndSwaps) {
  auto parameter = Parameter("p", {1});
  DenseEma ema(0.75, {parameter});
  ema.Swap();  // nothing to swap yet
  parameter.tensor.detach().fill_(2);
  ema.Update();
  parameter.tensor.detach().fill_(6);
  ema.Update();
  EXPECT_FLOAT_EQ(ema.State()[0].tensor.item<float>(), 3);
  ema.Swap();
  EXPECT_FLOAT_EQ(parameter.tensor.item<float>(), 3);
  ema.Swap();
  EXPECT_FLOAT_EQ(parameter.tensor.item<float>(), 6);
}

}  // namespace
}  // namespace anneal::optim
