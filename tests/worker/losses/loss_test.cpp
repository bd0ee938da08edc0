// Losses and their gradients on random rows, for losses.py to compute with torch; and what has to fail.
#include "worker/losses/loss.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"

namespace anneal::losses {
namespace {

using nlohmann::json;

tzrec::protos::LossConfig Config(const std::string& text) {
  tzrec::protos::LossConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return config;
}

template <typename T>
std::vector<T> Values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<T>(), flat.const_data_ptr<T>() + flat.numel()};
}

struct Case {
  const char *name, *config;
  int64_t columns;
  bool weighted;
};

TEST(Losses, WriteTheirValuesAndGradientsForTorchToCompare) {
  constexpr int64_t kRows = 96;
  at::manual_seed(5);
  const at::Tensor weights = at::rand({kRows}), sessions = at::randint(0, 12, {kRows}, at::kLong);
  json written = json::array();
  for (const Case& c : {Case{"bce", "binary_cross_entropy {}", 1, false},
                        Case{"bce_smoothed", "binary_cross_entropy { label_smoothing: 0.1 }", 1, true},
                        Case{"focal", "binary_focal_loss {}", 1, false},
                        Case{"focal_weighted", "binary_focal_loss { gamma: 1.5 alpha: 0.8 }", 1, true},
                        Case{"softmax", "softmax_cross_entropy {}", 4, true},
                        Case{"softmax_smoothed", "softmax_cross_entropy { label_smoothing: 0.2 }", 4, false},
                        Case{"l2", "l2_loss {}", 1, false}, Case{"l2_weighted", "l2_loss {}", 1, true},
                        Case{"jrc", "jrc_loss { session_name: 's' alpha: 0.3 }", 2, false},
                        Case{"jrc_weighted", "jrc_loss { session_name: 's' }", 2, true}}) {
    Input input;
    input.output = c.columns > 1 ? at::randn({kRows, c.columns}) * 3 : at::randn({kRows}) * 3;
    // Four sessions have rows of one label only.
    input.label =
        c.columns > 1 ? at::randint(0, c.columns, {kRows}).to(at::kFloat) : at::randint(0, 2, {kRows}).to(at::kFloat);
    if (c.columns == 2) input.label = at::where(sessions < 2, 0.0f, at::where(sessions < 4, 1.0f, input.label));
    if (std::string(c.name).starts_with("l2")) input.label = at::randn({kRows});
    if (c.weighted) input.weights = weights;
    input.sessions = sessions;
    input.output.set_requires_grad(true);
    const at::Tensor loss = Compute(Config(c.config), input);
    loss.backward();
    written.push_back({{"name", c.name},
                       {"columns", c.columns},
                       {"output", Values<float>(input.output.detach())},
                       {"label", Values<float>(input.label)},
                       {"sessions", Values<int64_t>(sessions)},
                       {"weights", c.weighted ? Values<float>(weights) : std::vector<float>()},
                       {"loss", loss.item<double>()},
                       {"gradient", Values<float>(input.output.grad())}});
  }
  std::ofstream out("losses.json");
  ASSERT_TRUE(out << written.dump());
}

// The reference's mean over no positive rows is NaN; extreme logits must not become one either.
TEST(Jrc, OneLabelOnlyAndExtremeLogitsAreFinite) {
  const auto config = Config("jrc_loss { session_name: 's' alpha: 0.5 }");
  for (const float label : {0.0f, 1.0f}) {
    Input input;
    input.output = at::tensor({500.f, -500.f, -500.f, 500.f}).reshape({2, 2}).set_requires_grad(true);
    input.label = at::full({2}, label);
    input.sessions = at::zeros({2}, at::kLong);
    const at::Tensor loss = Compute(config, input);
    EXPECT_NEAR(loss.item<double>(), 0.5 * 1000 / 2, 1e-3);  // cross entropy of one row; no pair to rank
    loss.backward();
    EXPECT_TRUE(at::isfinite(input.output.grad()).all().item<bool>());
    input.output = input.output.detach().set_requires_grad(true);
    input.label = at::tensor({0.f, 1.f});
    const at::Tensor mixed = Compute(config, input);
    mixed.backward();
    EXPECT_TRUE(at::isfinite(mixed).item<bool>());
    EXPECT_TRUE(at::isfinite(input.output.grad()).all().item<bool>());
  }
}

TEST(Losses, ALabelThatIsNoClassIsADataError) {
  for (const float wrong : {3.f, -1.f, NAN}) {
    try {
      CheckLabels(Config("softmax_cross_entropy {}"), at::tensor({1.f, wrong}), 3, "cls");
      ADD_FAILURE() << wrong;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("label column cls holds"));
      EXPECT_THAT(error.what(), testing::HasSubstr("num_class 3 allows 0 to 2"));
    }
  }
}

TEST(Losses, NumberOfClasses) {
  EXPECT_NO_THROW(Check(Config("softmax_cross_entropy {}"), 3));
  for (const auto& [text, classes] : std::vector<std::pair<const char*, int>>{{"binary_cross_entropy {}", 2},
                                                                              {"binary_focal_loss {}", 2},
                                                                              {"softmax_cross_entropy {}", 1},
                                                                              {"jrc_loss { session_name: 's' }", 3},
                                                                              {"l2_loss {}", 2}}) {
    EXPECT_THROW(Check(Config(text), classes), ConfigError) << text;
  }
}

}  // namespace
}  // namespace anneal::losses
