// Learning rates step by step, against the rates TorchEasyRec used (golden/zoo/*/steps.json) and by hand.
#include "worker/optim/schedule.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tzrec/pipeline.pb.h"
#include "worker/config/error.h"
#include "worker/config/shortest_decimal.h"

namespace anneal::optim {
namespace {

namespace fs = std::filesystem;

class GoldenSchedule : public testing::TestWithParam<std::string> {};

TEST_P(GoldenSchedule, EveryStepAgrees) {
  const fs::path folder = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/zoo" / GetParam();
  if (!fs::exists(folder)) GTEST_SKIP() << "the golden files are not on this machine";
  std::ostringstream text;
  text << std::ifstream(folder / "pipeline.config").rdbuf();
  tzrec::protos::EasyRecConfig config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text.str(), &config));
  const auto& train = config.train_config();
  const auto sparse = MakeSchedule(train.sparse_optimizer(), train.sparse_optimizer().adagrad_optimizer().lr());
  const auto dense = MakeSchedule(train.dense_optimizer(), config::ShortestDecimal(train.dense_optimizer().adam_optimizer().lr()));
  const auto steps = nlohmann::json::parse(std::ifstream(folder / "steps.json"));
  ASSERT_GE(steps.size(), 20u);
  const int64_t steps_per_epoch = 20;
  for (size_t k = 0; k < steps.size(); ++k) {
    const auto at = [&](const Schedule& s) { return s.rate(s.by_epoch ? static_cast<int64_t>(k) / steps_per_epoch : static_cast<int64_t>(k)); };
    EXPECT_NEAR(at(sparse), steps[k]["lr"][0].get<double>(), 1e-9) << "sparse, step " << k;
    EXPECT_NEAR(at(dense), steps[k]["lr"][1].get<double>(), 1e-9) << "dense, step " << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo, GoldenSchedule, testing::Values("opt_exp_warmup_staircase", "opt_manual_step", "opt_cosine", "opt_by_epoch", "deepfm"));

TEST(Schedule, WarmRestarts) {
  tzrec::protos::DenseOptimizer config;
  auto& restarts = *config.mutable_cosine_annealing_warm_restarts_learning_rate();
  restarts.set_t_0(4);
  restarts.set_t_mult(2);
  const auto s = MakeSchedule(config, 1.0);
  EXPECT_NEAR(s.rate(0), 1.0, 1e-12);
  EXPECT_NEAR(s.rate(2), 0.5, 1e-12);
  EXPECT_NEAR(s.rate(4), 1.0, 1e-12);   // second period of 8
  EXPECT_NEAR(s.rate(8), 0.5, 1e-12);
  EXPECT_NEAR(s.rate(12), 1.0, 1e-12);  // third of 16
}

TEST(Schedule, FaultsNameTheField) {
  tzrec::protos::DenseOptimizer config;
  EXPECT_THROW(MakeSchedule(config, 1.0), ConfigError);
  config.mutable_exponential_decay_learning_rate();
  EXPECT_THROW(MakeSchedule(config, 1.0), ConfigError);
  config.mutable_cosine_annealing_learning_rate();
  EXPECT_THROW(MakeSchedule(config, 1.0), ConfigError);
}

TEST(Schedule, ABaseOfZeroStays) {
  tzrec::protos::SparseOptimizer config;
  config.mutable_exponential_decay_learning_rate()->set_decay_size(1);
  config.mutable_exponential_decay_learning_rate()->set_min_learning_rate(0.5f);
  EXPECT_EQ(MakeSchedule(config, 0.0).rate(3), 0.0);
}

}  // namespace
}  // namespace anneal::optim
