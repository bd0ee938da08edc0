// Losses and metrics from TorchEasyRec's own predictions (golden/zoo): models that Anneal lacks judge heads all the
// same.
#include <ATen/ATen.h>
#include <arrow/api.h>
#include <arrow/io/file.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <parquet/arrow/reader.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tzrec/pipeline.pb.h"
#include "worker/losses/loss.h"
#include "worker/losses/session_ranking.h"
#include "worker/metrics/metric.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal {
namespace {

namespace fs = std::filesystem;
using checkpoint::TensorView;

at::Tensor Tensor(const TensorView& view) {
  const auto type = view.dtype == checkpoint::DType::kI64 ? at::kLong : at::kFloat;
  return at::from_blob(const_cast<void*>(view.data), view.shape, type).to(at::kFloat);
}

/// An integer column of the evaluation rows: the ids that FG_NONE takes as they are, 0 where there is none.
std::vector<int64_t> Ids(const fs::path& path, const std::string& column) {
  const auto file = arrow::io::ReadableFile::Open(path).ValueOrDie();
  parquet::arrow::FileReaderBuilder builder;
  EXPECT_TRUE(builder.Open(file).ok());
  std::unique_ptr<parquet::arrow::FileReader> reader;
  EXPECT_TRUE(builder.Build(&reader).ok());
  const auto table = reader->ReadTable().ValueOrDie();
  std::vector<int64_t> ids;
  for (const auto& chunk : table->GetColumnByName(column)->chunks()) {
    for (int64_t i = 0; i < chunk->length(); ++i) {
      const auto scalar = std::static_pointer_cast<arrow::Int64Scalar>(chunk->GetScalar(i).ValueOrDie());
      ids.push_back(scalar->is_valid ? scalar->value : 0);
    }
  }
  return ids;
}

class GoldenHeads : public testing::TestWithParam<std::string> {};

TEST_P(GoldenHeads, LossesAndMetricsAgree) {
  const fs::path zoo = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/zoo", folder = zoo / GetParam();
  if (!fs::exists(folder)) GTEST_SKIP() << "the golden files are not on this machine";
  std::ostringstream text;
  text << std::ifstream(folder / "pipeline.config").rdbuf();
  tzrec::protos::EasyRecConfig config;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text.str(), &config));
  const auto& model = config.model_config();
  const int classes = static_cast<int>(model.num_class());
  const checkpoint::SafetensorsFile file(folder / "eval_predictions.safetensors");
  const auto tensor = [&](const std::string& name) { return Tensor(file.tensors().at(name)); };
  const at::Tensor label = tensor("label/" + config.data_config().label_fields(0));
  const auto ids = [&](const std::string& feature) { return Ids(zoo / "data/rank_eval.parquet", feature); };
  constexpr int64_t kBatch = 256;

  for (const auto& loss : model.losses()) {
    const std::string name = losses::Name(loss), session = losses::SessionName(loss);
    const at::Tensor output = tensor(losses::OutputOf(loss) == losses::Output::kValue ? "pred/y" : "pred/logits");
    const at::Tensor sessions = session.empty() ? at::Tensor() : at::tensor(ids(session), at::kLong);
    const at::Tensor want = tensor("loss/" + name);
    for (int64_t b = 0; b < want.numel(); ++b) {
      losses::Input input;
      input.output = output.slice(0, b * kBatch, (b + 1) * kBatch);
      input.label = label.slice(0, b * kBatch, (b + 1) * kBatch);
      if (sessions.defined()) input.sessions = losses::NumberSessions(sessions.slice(0, b * kBatch, (b + 1) * kBatch));
      const double expected = want[b].item<double>();
      EXPECT_NEAR(losses::Compute(loss, input).item<double>(), expected, 2e-6 * std::abs(expected)) << name;
    }
  }

  const auto results = nlohmann::json::parse(std::ifstream(folder / "eval_result.json"));
  for (const auto& metric : model.metrics()) {
    const std::string name = metrics::Name(metric), key = metrics::GroupingKey(metric);
    const at::Tensor prediction = tensor("pred/" + metrics::PredictionOf(metric, classes)).contiguous();
    const std::vector<int64_t> groups = key.empty() ? std::vector<int64_t>() : ids(key);
    const auto computed = metrics::MakeMetric(metric, classes);
    computed->Update({{prediction.const_data_ptr<float>(), static_cast<size_t>(prediction.numel())},
                      {label.const_data_ptr<float>(), static_cast<size_t>(label.numel())},
                      groups});
    computed->FoldSamples();
    // The reference samples the pairs of XAUC.
    const double tolerance = name.ends_with("xauc") ? 5e-3 : 1e-6 * std::max(1.0, results[name].get<double>());
    EXPECT_NEAR(computed->Compute(), results[name].get<double>(), tolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo, GoldenHeads,
                         testing::Values("wide_and_deep", "dlrm", "masknet", "multi_tower", "multi_tower_3class"));

}  // namespace
}  // namespace anneal
