// What the tests of exports share: the reference's files, and options that export its DeepFM.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/Dict.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "worker/config/pipeline.h"
#include "worker/export/export.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {

namespace fs = std::filesystem;
using nlohmann::json;

inline const fs::path kZoo = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/zoo";
inline const fs::path kGolden = kZoo / "deepfm/export/QUANT_EMB=0";

using Variables = std::vector<std::pair<std::string, std::string>>;

/// Sets environment variables for a scope.
class Environment {
 public:
  explicit Environment(Variables values) : values_(std::move(values)) {
    for (const auto& [name, value] : values_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : values_) unsetenv(name.c_str());
  }

 private:
  Variables values_;
};

inline at::Tensor ToTensor(const checkpoint::TensorView& view) {
  const auto type = view.dtype == checkpoint::DType::kI64   ? at::kLong
                    : view.dtype == checkpoint::DType::kI32 ? at::kInt
                                                            : at::kFloat;
  return at::from_blob(const_cast<void*>(view.data), view.shape, type).clone();
}

inline c10::Dict<std::string, at::Tensor> Dictionary(const fs::path& file) {
  const checkpoint::SafetensorsFile tensors(file.string());
  c10::Dict<std::string, at::Tensor> dictionary;
  for (const auto& [name, view] : tensors.tensors()) dictionary.insert(name, ToTensor(view));
  return dictionary;
}

/// The configuration of an export is the reference's, but for where things lie.
inline void ExpectSameConfig(const fs::path& ours, const fs::path& golden) {
  auto config = config::LoadPipelineConfig(ours).config, wanted = config::LoadPipelineConfig(golden).config;
  wanted.set_model_dir(config.model_dir());
  std::string difference;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(wanted, config)) << difference;
}

inline ExportOptions Options(const std::string& folder) {
  ExportOptions options;
  options.program = ANNEAL_BINARY_DIR "/bin/anneal";
  options.pipeline_config_path = (kZoo / "deepfm/pipeline.config").string();
  options.checkpoint_path = (kGolden / "scripted_state.safetensors").string();
  options.export_dir = folder;
  options.verify_input_path = (kZoo / "data/multi_eval.parquet").string();
  return options;
}

/// Most tests read the folder "exported": an export of float32 tables that the first of them finds made.
class ExportTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!fs::exists(kGolden)) return;
    setenv("QUANT_EMB", "0", 1);
    fs::remove_all("exported");
    ASSERT_EQ(RunExport(Options("exported")), 0);
  }
  void SetUp() override {
    if (!fs::exists(kGolden)) GTEST_SKIP() << "the golden files are not on this machine";
    setenv("QUANT_EMB", "0", 1);
  }
};

}  // namespace anneal::exporting
