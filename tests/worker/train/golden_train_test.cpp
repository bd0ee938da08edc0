// Whole training runs of TorchEasyRec (../shared/golden/train, and golden/zoo with sampled negatives): step losses,
// final weights and evaluation.
#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <gtest/gtest.h>
#include <parquet/arrow/reader.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/worker/train/event_reader.h"
#include "worker/data/sampler/negative_sampler.h"
#include "worker/data/sampler/tree_sampler.h"
#include "worker/train/checkpoint/safetensors.h"
#include "worker/train/train.h"

namespace anneal::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kGolden = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/train";
const fs::path kZoo = kGolden / "../zoo";

/// What a run left in model_dir against the reference's, whose last evaluation is in `result`.
void ExpectGolden(const fs::path& expected, const fs::path& result, const fs::path& model_dir, size_t steps) {
  const json losses = json::parse(std::ifstream(expected / "losses.json"));
  ASSERT_EQ(losses.size(), steps);
  const auto scalars = tests::ReadScalars(model_dir);
  for (size_t step = 0; step < losses.size(); ++step) {
    for (const auto& [loss, value] : losses[step].items()) {
      const auto found = scalars.find({"loss/" + loss, static_cast<int64_t>(step)});
      ASSERT_NE(found, scalars.end()) << loss << " of step " << step;
      EXPECT_NEAR(found->second, value.get<double>(), 1e-4 * std::abs(value.get<double>())) << loss << " " << step;
    }
  }

  const checkpoint::SafetensorsFile want((expected / "weights_end.safetensors").string());
  const checkpoint::SafetensorsFile got(
      (model_dir / ("model.ckpt-" + std::to_string(steps - 1)) / "model-00000-of-00001.safetensors").string());
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

  const json want_result = json::parse(std::ifstream(result));
  const json got_result = json::parse(std::ifstream(model_dir / "train_eval_result_v2.txt"));
  for (const auto& [key, value] : want_result.items()) {
    // The own item of 157 of the 1,024 rows is among their sampled ones, too: which of the two is before is rounding.
    const double tolerance = key.starts_with("recall@") ? 3e-3 : 1e-4;
    EXPECT_NEAR(got_result.at(key).get<double>(), value.get<double>(), tolerance) << key;
  }
}

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
  ExpectGolden(expected, expected / "train_eval_result_v2.txt", model_dir, 60);
}

INSTANTIATE_TEST_SUITE_P(Runs, GoldenTraining, testing::Values("deepfm_fused", "mmoe_fused", "deepfm"));

/// The zoo's 200 items, row i of the id i.
data::RowSlice ZooItems() {
  auto file = arrow::io::ReadableFile::Open((kZoo / "data/items.parquet").string()).ValueOrDie();
  auto reader = parquet::arrow::OpenFile(file, arrow::default_memory_pool()).ValueOrDie();
  const auto table = reader->ReadTable().ValueOrDie();
  return {table->CombineChunksToBatch().ValueOrDie(), 0, table->num_rows()};
}

/// What the golden runs drew negatives with (golden/zoo/README.md).
class StandInSampler : public data::NegativeSampler {
 public:
  explicit StandInSampler(int64_t count) : count_(count), items_(ZooItems()) {}
  data::Negatives Sample(const data::SamplingRequest& request) const override {
    data::Negatives negatives;
    for (int64_t j = 0; j < count_; ++j) negatives.items.push_back((31 * request.number + 7 * j) % 200);
    return negatives;
  }
  const data::RowSlice& attributes() const override { return items_; }

 private:
  const int64_t count_;
  data::RowSlice items_;
};

class StandInTreeSampler : public data::TreeSampler {
 public:
  data::TreeNodes Sample(const data::SamplingRequest& request) const override {
    data::TreeNodes result;
    const auto add = [&](size_t row, int64_t shift) {
      result.nodes.push_back((request.items[row] + shift) % 200);
      result.rows.push_back(static_cast<int32_t>(row));
    };
    for (size_t row = 0; row < request.items.size(); ++row) add(row, 50), add(row, 100);
    result.ancestors = static_cast<int64_t>(result.nodes.size());
    for (size_t row = 0; row < request.items.size(); ++row) {
      for (int64_t j = 0; j < 3; ++j) add(row, 17 * (j + 1) + request.number);
    }
    return result;
  }
  const data::RowSlice& attributes() const override { return items_; }

 private:
  data::RowSlice items_ = ZooItems();
};

/// `plan`: of the tables, where the reference does not train all of them with the sparse optimizer.
void ExpectGoldenOfZoo(const std::string& name, const json& plan = {}) {
  const fs::path expected = kZoo / name, model_dir = fs::absolute("model-" + name);
  fs::remove_all(model_dir);
  setenv("OMP_NUM_THREADS", "1", 1);
  TrainOptions options;
  options.pipeline_config_path = (expected / "pipeline.config").string();
  options.model_dir = model_dir.string();
  options.train_input_path = (kZoo / "data/seq_train.parquet").string();
  options.eval_input_path = (kZoo / "data/seq_eval.parquet").string();
  options.fine_tune_checkpoint = (expected / "weights_init.safetensors").string();
  options.edit_config_json = R"({"train_config.use_tensorboard": true})";
  if (!plan.is_null()) {
    options.sharding_plan = "plan-" + name + ".json";
    std::ofstream(options.sharding_plan) << plan.dump();
  }
  ASSERT_EQ(RunTrain(options), 0);
  ExpectGolden(expected, expected / "eval_result.json", model_dir, 20);
}

TEST(GoldenSampling, SampledNegativesOfDssm) {
  if (!fs::exists(kZoo)) GTEST_SKIP() << "the golden files are not on this machine";
  data::NegativeSampler::MakerOfStreams() = [](const auto&, bool training, const auto&...) {
    return std::make_shared<StandInSampler>(training ? 64 : 32);
  };
  ExpectGoldenOfZoo("dssm_sampler");
  data::NegativeSampler::MakerOfStreams() = data::NegativeSampler::Make;
}

TEST(GoldenSampling, NodesOfATree) {
  if (!fs::exists(kZoo)) GTEST_SKIP() << "the golden files are not on this machine";
  data::TreeSampler::MakerOfStreams() = [](const auto&...) { return std::make_shared<StandInTreeSampler>(); };
  // On a CPU the reference trains sequence tables with the dense optimizer.
  const json fused = {{"sharding_type", "table_wise"}, {"compute_kernel", "fused"}, {"ranks", {0}}};
  const json dense = {{"sharding_type", "data_parallel"}, {"compute_kernel", "dense"}, {"ranks", {0}}};
  ExpectGoldenOfZoo(
      "tdm_sampler",
      {{"model.embedding_group.emb_impls.__BASE__.ebc", {{"city_emb", fused}, {"user_id_emb", fused}}},
       {"model.embedding_group.seq_emb_impls.__BASE__.ec_dict.8", {{"cate_emb", dense}, {"item_emb", dense}}}});
  data::TreeSampler::MakerOfStreams() = data::TreeSampler::Make;
}

}  // namespace
}  // namespace anneal::train
