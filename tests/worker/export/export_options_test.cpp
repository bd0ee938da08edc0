// What an export is made of and with: checkpoints, averages, precision, assets, one process of many.
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <fstream>
#include <functional>
#include <limits>
#include <map>

#include "tests/worker/export/export_fixture.h"
#include "worker/config/error.h"

namespace anneal::exporting {
namespace {

std::string Checkpoint(const std::string& name, const std::function<void(std::map<std::string, at::Tensor>&)>& change) {
  std::map<std::string, at::Tensor> state;
  for (const auto& entry : Dictionary(kGolden / "scripted_state.safetensors")) state[entry.key()] = entry.value();
  change(state);
  std::vector<checkpoint::TensorView> views;
  for (const auto& [key, value] : state) {
    views.push_back({key, checkpoint::DType::kF32, value.sizes().vec(), value.const_data_ptr()});
  }
  checkpoint::WriteSafetensors(name, views);
  return name;
}

at::Tensor LogitsOf(const std::string& folder) {
  return torch::jit::load(folder + "/scripted_model.pt")
      .forward({Dictionary(kGolden / "inputs32.safetensors")})
      .toGenericDict()
      .at("logits")
      .toTensor();
}

constexpr const char* kLastBias = "model.output_mlp.bias";

/// Averages are taken where export_config says so, and otherwise where the training made them.
TEST_F(ExportTest, DenseAverages) {
  const std::string averaged = Checkpoint("averaged.safetensors", [](auto& state) {
    state[std::string(kLastBias) + "//dense_ema"] = state.at(kLastBias) + 1;
  });
  const at::Tensor plain = LogitsOf("exported");
  const std::vector<std::pair<const char*, double>> cases = {
      {"{}", 0},
      {R"({"export_config.use_dense_ema": true})", 1},
      {R"({"train_config.dense_optimizer.ema.decay": 0.9})", 1},
      {R"({"train_config.dense_optimizer.ema.decay": 0.9, "export_config.use_dense_ema": false})", 0}};
  for (const auto& [edits, shift] : cases) {
    SCOPED_TRACE(edits);
    fs::remove_all("ema");
    auto options = Options("ema");
    options.checkpoint_path = averaged;
    options.edit_config_json = edits;
    ASSERT_EQ(RunExport(options), 0);
    EXPECT_LE((LogitsOf("ema") - plain - shift).abs().max().item<double>(), 1e-5);
  }
}

/// The message of the error that an export ends with.
std::string Refusal(const ExportOptions& options) {
  try {
    RunExport(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_F(ExportTest, CheckpointsOfAnotherConfigAreRefused) {
  auto options = Options("foreign");
  options.checkpoint_path = Checkpoint("lacking.safetensors", [](auto& state) { state.erase(kLastBias); });
  EXPECT_NE(Refusal(options).find(std::string("lacks 1 of the model's parameters, the first is '") + kLastBias),
            std::string::npos);
  options.checkpoint_path = Checkpoint("misfit.safetensors", [](auto& state) { state[kLastBias] = at::zeros({3}); });
  EXPECT_NE(Refusal(options).find("has shape [3], the model's is [1]"), std::string::npos);
  options.checkpoint_path = (kZoo / "mmoe/export/QUANT_EMB=0/scripted_state.safetensors").string();
  EXPECT_NE(Refusal(options), "");
  options.checkpoint_path = "nothing";
  EXPECT_NE(Refusal(options).find("checkpoint path should be specified."), std::string::npos);
  EXPECT_FALSE(fs::exists("foreign"));
  EXPECT_FALSE(fs::exists(".foreign.unfinished"));
}

/// The artefact would answer as its model does: with nothing.
TEST_F(ExportTest, AModelThatAnswersNoNumberIsRefused) {
  auto options = Options("nan");
  options.checkpoint_path = Checkpoint(
      "nan.safetensors", [](auto& state) { state[kLastBias].fill_(std::numeric_limits<float>::quiet_NaN()); });
  EXPECT_NE(Refusal(options).find("output logits is no finite number in"), std::string::npos);
  EXPECT_FALSE(fs::exists("nan"));
}

/// The check judges the artefact, in another process: what happens to the file between writing and publishing is seen.
TEST_F(ExportTest, WhatIsPublishedIsWhatWasChecked) {
  fs::remove_all("other");
  auto options = Options("other");
  options.checkpoint_path = Checkpoint("other.safetensors", [](auto& state) { state[kLastBias] += 0.01; });
  ASSERT_EQ(RunExport(options), 0);
  const std::string swap = fs::absolute("swap");
  std::ofstream(swap) << "#!/bin/sh\ncp " << fs::absolute("other/scripted_model.pt").string()
                      << " \"$2/scripted_model.pt\"\nexec " << options.program << " \"$@\"\n";
  fs::permissions(swap, fs::perms::owner_all);
  for (const std::string& program : {swap, std::string("/bin/false"), std::string("/nowhere/anneal")}) {
    SCOPED_TRACE(program);
    fs::remove("swapped.rejected.json");
    options = Options("swapped");
    options.program = program;
    options.publish.uri = "file://" + fs::absolute("swapped_store").string();
    const std::string refusal = Refusal(options);
    EXPECT_FALSE(fs::exists("swapped"));
    EXPECT_FALSE(fs::exists("swapped_store"));
    if (program != swap) {
      EXPECT_NE(refusal.find("a fresh process cannot run the export"), std::string::npos) << refusal;
      continue;
    }
    EXPECT_NE(refusal.find("differs from the trained one by"), std::string::npos) << refusal;
    const json report = json::parse(std::ifstream("swapped.rejected.json"));
    EXPECT_NEAR(report["max_abs_diff"].get<double>(), 0.01, 1e-4);
    EXPECT_GT(report["max_abs_diff"], report["mean_abs_diff"]);
    EXPECT_FALSE(report["passed"].get<bool>());
  }
}

TEST_F(ExportTest, OneProcessOfALaunchExports) {
  const auto environment = [](const char* rank) {
    return Variables{{"RANK", rank},
                     {"WORLD_SIZE", "2"},
                     {"LOCAL_RANK", rank},
                     {"LOCAL_WORLD_SIZE", "2"},
                     {"MASTER_ADDR", "127.0.0.1"},
                     {"MASTER_PORT", "1"}};
  };
  fs::remove_all("launched");
  testing::internal::CaptureStderr();
  {
    const Environment second(environment("1"));
    EXPECT_EQ(RunExport(Options("launched")), 0);
    EXPECT_FALSE(fs::exists("launched"));
  }
  {
    const Environment first(environment("0"));
    EXPECT_EQ(RunExport(Options("launched")), 0);
    EXPECT_TRUE(fs::exists("launched/scripted_model.pt"));
  }
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("rank 1 has nothing to do"), std::string::npos);
  EXPECT_NE(text.find("WORLD_SIZE counts as 1"), std::string::npos);
}

/// export_config's precision is for compiled formats; differing from the training is worth a warning.
TEST_F(ExportTest, PrecisionIsExportConfigs) {
  for (const char* format : {"TorchScript", "RTP", "Distributed"}) {
    SCOPED_TRACE(format);
    fs::remove_all("precise");
    auto options = Options("precise");
    options.settings.format = format;
    options.edit_config_json =
        R"({"export_config.mixed_precision": "BF16", "train_config.cuda_matmul_allow_tf32": true,
            "export_config.cuda_matmul_allow_tf32": false, "export_config.cudnn_allow_tf32": false})";
    testing::internal::CaptureStderr();
    EXPECT_EQ(RunExport(options), 0);  // equal to float32 within 1e-5
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_NE(text.find("export_config.mixed_precision 'BF16' differs from train_config's ''"), std::string::npos);
    EXPECT_NE(text.find("export_config.cuda_matmul_allow_tf32 differs from train_config's"), std::string::npos);
    EXPECT_EQ(text.find("cudnn_allow_tf32 differs"), std::string::npos);
  }
}

TEST_F(ExportTest, AssetFiles) {
  fs::remove_all("assets");
  fs::remove_all("with_assets");
  fs::create_directories("assets");
  std::ofstream("assets/fg.json") << "{\"features\": []}";
  std::ofstream("assets/words.txt") << "a b";
  std::ofstream("assets/model_acc.json") << "{}";
  auto options = Options("with_assets");
  options.asset_files = "assets/fg.json,assets/words.txt";
  options.additional_export_config = R"({"cand_seq_pk": "item"})";
  ASSERT_EQ(RunExport(options), 0);
  EXPECT_EQ(json::parse(std::ifstream("with_assets/fg.json")), json::parse("{\"features\": []}"));
  EXPECT_TRUE(fs::exists("with_assets/words.txt"));
  EXPECT_EQ(json::parse(std::ifstream("with_assets/model_acc.json"))["cand_seq_pk"], "item");
  options.export_dir = "never_made";
  options.asset_files = "assets/model_acc.json";
  EXPECT_NE(Refusal(options).find("--asset_files: cannot copy assets/model_acc.json: File exists"), std::string::npos);
  options.asset_files = "assets/missing";
  EXPECT_NE(Refusal(options).find("--asset_files: cannot copy assets/missing"), std::string::npos);
  options = Options("never_made");
  options.additional_export_config = "[1]";
  EXPECT_NE(Refusal(options).find("--additional_export_config is not a JSON object"), std::string::npos);
  EXPECT_FALSE(fs::exists("never_made"));
}

}  // namespace
}  // namespace anneal::exporting
