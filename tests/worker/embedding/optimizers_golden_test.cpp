// The golden runs of ../shared/golden/optimizers: weights and state after each of five steps.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "worker/config/instruction_set.h"
#include "worker/embedding/table_batch.h"

namespace anneal::embedding {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kGolden = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/optimizers";

OptimizerType TypeOf(const std::string& name) {
  static const std::map<std::string, OptimizerType> types = {
      {"exact_sgd", OptimizerType::kSgd},
      {"exact_adagrad", OptimizerType::kAdagrad},
      {"exact_rowwise_adagrad", OptimizerType::kRowwiseAdagrad},
      {"adam", OptimizerType::kAdam},
      {"partial_rowwise_adam", OptimizerType::kPartialRowwiseAdam},
      {"lamb", OptimizerType::kLamb},
      {"partial_rowwise_lamb", OptimizerType::kPartialRowwiseLamb},
      {"lars_sgd", OptimizerType::kLarsSgd}};
  return types.at(name);
}

struct Case {
  std::string file, kernels;
  int threads;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.file << " " << c.kernels << " " << c.threads; }

class GoldenOptimizer : public testing::TestWithParam<Case> {};

TEST_P(GoldenOptimizer, WeightsAndStateAfterEachStep) {
  const Case& c = GetParam();
  if (!config::CpuRuns(c.kernels)) GTEST_SKIP() << "this CPU has no " << c.kernels;
  setenv("ANNEAL_CPU_KERNELS", c.kernels.c_str(), 1);
  const json golden = json::parse(std::ifstream(kGolden / c.file));
  const json& hyper = golden.at("hyper");
  auto number = [&](const char* key, double fallback) {
    return static_cast<float>(hyper.contains(key) && hyper[key].is_number() ? hyper[key].get<double>() : fallback);
  };
  OptimizerSpec spec;
  spec.type = TypeOf(golden.at("optimizer").get<std::string>());
  spec.eps = number("eps", 1e-8);
  spec.beta1 = number("beta1", 0.9);
  spec.beta2 = number("beta2", 0.999);
  spec.weight_decay = number("weight_decay", 0);
  spec.weight_decay_mode = static_cast<WeightDecayMode>(static_cast<int>(number("weight_decay_mode", 0)));
  spec.eta = number("eta", 0.001);
  spec.momentum = number("momentum", 0.9);
  spec.initial_accumulator = golden.at("init_state_value").get<float>();
  spec.max_gradient = number("max_gradient", 0);
  if (hyper.contains("gradient_clipping") && !hyper["gradient_clipping"].get<bool>()) spec.max_gradient = 0;
  const int64_t rows = 50, dim = 8;
  const auto pooling = c.file.find("_mean") != std::string::npos ? Pooling::kMean : Pooling::kSum;
  auto tables = MakeCpuTableBatch({{"t", rows, dim}}, {{0, pooling, 0}}, spec, c.threads);
  const auto init = golden.at("init_weights").get<std::vector<float>>();
  ASSERT_EQ(init.size(), static_cast<size_t>(rows * dim));
  std::copy(init.begin(), init.end(), tables->weights(0));
  ASSERT_EQ(golden.at("steps").size(), 5u);
  for (const json& step : golden["steps"]) {
    const auto indices = step.at("indices").get<std::vector<int64_t>>();
    const auto offsets = step.at("offsets").get<std::vector<int64_t>>();
    const auto grad = step.at("grad").get<std::vector<float>>();
    const Jagged jagged{indices.data(), offsets.data(), nullptr};
    tables->BackwardUpdate({&jagged, 1}, static_cast<int64_t>(offsets.size()) - 1, grad.data(), dim, 1.f,
                           number("lr", 0));
    const json& after = step.at("after");
    const auto weights = after.at("weights").get<std::vector<double>>();
    for (int64_t i = 0; i < rows * dim; ++i) ASSERT_NEAR(tables->weights(0)[i], weights[i], 2e-6) << "element " << i;
    const auto states = tables->state(0);
    for (size_t s = 0; s < states.size(); ++s) {
      const auto expected = after.at(s == 0 ? "momentum1" : "momentum2").get<std::vector<double>>();
      ASSERT_EQ(expected.size(), static_cast<size_t>(states[s].rows * std::max<int64_t>(states[s].dim, 1)));
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(states[s].data[i], expected[i], 1e-6 + 1e-5 * std::abs(expected[i])) << states[s].name << " " << i;
      }
    }
  }
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  if (!fs::exists(kGolden)) return cases;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(kGolden)) {
    const std::string name = entry.path().filename();
    // Its first step divides by a sum that cancels to about 1e-9, so it depends on the order of additions (README
    // point 6 of the golden files); the clip0.9 files are the ones to hold.
    if (name.starts_with("exact_adagrad_clip0.3")) continue;
    if (name.ends_with(".json") && name != "summary.json") files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    for (const char* kernels : {"scalar", "avx2", "avx512"}) {
      for (const int threads : {1, 2}) cases.push_back({file, kernels, threads});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenOptimizer, testing::ValuesIn(AllCases()));
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenOptimizer);

TEST(GoldenOptimizer, FilesAreThere) {
  if (!fs::exists(kGolden)) GTEST_SKIP() << "the golden files are not on this machine";
  EXPECT_EQ(AllCases().size(), 38u * 3 * 2);
}

}  // namespace
}  // namespace anneal::embedding
