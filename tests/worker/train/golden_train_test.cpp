// Whole training runs of TorchEasyRec (../shared/golden/train): step losses, final weights and evaluation.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/worker/train/event_reader.h"
#include "worker/train/checkpoint/safetensors.h"
#include "worker/train/train.h"

namespace anneal::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kGolden = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/train";

class GoldenTraining : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTraining, LossesWeightsAndEvaluationAgree) {
  if (!fs::exists(kGolden)) GTEST_SKIP() << "the golden files are not on this machine";
  const std::string name = GetParam();
  const fs::path expected = kGolden / name, model_dir = fs::absolute("model-" + name);
  fs::remove_all(model_dir);
  setenv("OMP_NUM_THREADS", "1", 1);
  TrainOptions options;
  options.pipeline_config_path = (kGolden / (name + ".config")).string();
  options.model_dir = model_dir.string();
  const std::string kind = name.substr(0, name.find('_'));
  options.train_input_path = (kGolden / "data" / (kind + "_train.parquet")).string();
  options.eval_input_path = (kGolden / "data" / (kind + "_eval.parquet")).string();
  options.fine_tune_checkpoint = (expected / "weights_init.safetensors").string();
  if (fs::exists(expected / "plan.json")) options.sharding_plan = (expected / "plan.json").string();
  options.edit_config_json = R"({"train_config.use_tensorboard": true})";
  ASSERT_EQ(RunTrain(options), 0);

  const json losses = json::parse(std::ifstream(expected / "losses.json"));
  ASSERT_EQ(losses.size(), 60u);
  const auto scalars = tests::ReadScalars(model_dir);
  for (size_t step = 0; step < losses.size(); ++step) {
    for (const auto& [loss, value] : losses[step].items()) {
      const auto found = scalars.find({"loss/" + loss, static_cast<int64_t>(step)});
      ASSERT_NE(found, scalars.end()) << loss << " of step " << step;
      EXPECT_NEAR(found->second, value.get<double>(), 1e-4 * std::abs(value.get<double>())) << loss << " " << step;
    }
  }

  const checkpoint::SafetensorsFile want((expected / "weights_end.safetensors").string());
  const checkpoint::SafetensorsFile got((model_dir / "model.ckpt-59/model-00000-of-00001.safetensors").string());
  int64_t total = 0, off = 0;
  for (const auto& [tensor, golden] : want.tensors()) {
    const auto found = got.tensors().find(tensor);
    ASSERT_NE(found, got.tensors().end()) << tensor;
    ASSERT_EQ(found->second.shape, golden.shape) << tensor;
    const auto* a = static_cast<const float*>(golden.data);
    const auto* b = static_cast<const float*>(found->second.data);
    for (int64_t i = 0; i < golden.elements(); ++i) {
      const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
      ASSERT_LE(difference, 1e-3) << tensor << " element " << i;
      off += difference > 1e-4;
      ++total;
    }
  }
  EXPECT_EQ(got.tensors().size(), want.tensors().size());
  EXPECT_LE(static_cast<double>(off), 0.001 * static_cast<double>(total));

  const json want_result = json::parse(std::ifstream(expected / "train_eval_result_v2.txt"));
  const json got_result = json::parse(std::ifstream(model_dir / "train_eval_result_v2.txt"));
  for (const auto& [key, value] : want_result.items()) {
    EXPECT_NEAR(got_result.at(key).get<double>(), value.get<double>(), 1e-4) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, GoldenTraining, testing::Values("deepfm_fused", "mmoe_fused", "deepfm"));

}  // namespace
}  // namespace anneal::train
