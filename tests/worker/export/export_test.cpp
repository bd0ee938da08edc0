// Exports against TorchEasyRec's own (golden/zoo/deepfm/export/QUANT_EMB=0) and against the checkpoint.
#include "worker/export/export.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/export/assets.h"
#include "worker/io/digest.h"
#include "worker/io/publish.h"
#include "worker/train/checkpoint/safetensors.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kZoo = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden/zoo";
const fs::path kGolden = kZoo / "deepfm/export/QUANT_EMB=0";

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

at::Tensor ToTensor(const checkpoint::TensorView& view) {
  const auto type = view.dtype == checkpoint::DType::kI64 ? at::kLong : at::kFloat;
  return at::from_blob(const_cast<void*>(view.data), view.shape, type).clone();
}

c10::Dict<std::string, at::Tensor> Dictionary(const fs::path& file) {
  const checkpoint::SafetensorsFile tensors(file.string());
  c10::Dict<std::string, at::Tensor> dictionary;
  for (const auto& [name, view] : tensors.tensors()) dictionary.insert(name, ToTensor(view));
  return dictionary;
}

ExportOptions Options(const std::string& folder) {
  ExportOptions options;
  options.program = ANNEAL_BINARY_DIR "/bin/anneal";
  options.pipeline_config_path = (kZoo / "deepfm/pipeline.config").string();
  options.checkpoint_path = (kGolden / "scripted_state.safetensors").string();
  options.export_dir = folder;
  options.verify_input_path = (kZoo / "data/multi_eval.parquet").string();
  return options;
}

class ExportTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kGolden)) GTEST_SKIP() << "the golden files are not on this machine";
    setenv("QUANT_EMB", "0", 1);
  }
};

TEST_F(ExportTest, GivesTheReferencesOutputsAndFiles) {
  fs::remove_all("exported");
  ASSERT_EQ(RunExport(Options("exported")), 0);
  auto module = torch::jit::load("exported/scripted_model.pt");
  const checkpoint::SafetensorsFile inputs((kGolden / "inputs32.safetensors").string());
  const checkpoint::SafetensorsFile outputs((kGolden / "outputs32.safetensors").string());
  c10::Dict<std::string, at::Tensor> dictionary;
  for (const auto& [name, view] : inputs.tensors()) dictionary.insert(name, ToTensor(view));
  dictionary.insert("not.asked.for", at::zeros({3}));  // extra keys are ignored
  const auto got = module.forward({dictionary}).toGenericDict();
  EXPECT_EQ(got.size(), outputs.tensors().size());
  for (const auto& [name, view] : outputs.tensors()) {
    EXPECT_LE((got.at(name).toTensor() - ToTensor(view)).abs().max().item<double>(), 1e-6) << name;
  }
  // Names of the state are the reference's.
  const checkpoint::SafetensorsFile state((kGolden / "scripted_state.safetensors").string());
  size_t parameters = 0;
  for (const auto& parameter : module.named_parameters()) {
    EXPECT_TRUE(state.tensors().count(parameter.name)) << parameter.name;
    ++parameters;
  }
  EXPECT_EQ(parameters, state.tensors().size());
  EXPECT_EQ(json::parse(std::ifstream("exported/fg.json")), json::parse(std::ifstream(kGolden / "fg.json")));
  EXPECT_EQ(json::parse(std::ifstream("exported/model_acc.json")),
            json::parse(std::ifstream(kGolden / "model_acc.json")));
  const json report = json::parse(std::ifstream("exported/export_report.json"));
  EXPECT_TRUE(report["passed"].get<bool>());
  EXPECT_GT(report["rows"].get<int>(), 1000);
}

TEST_F(ExportTest, AnyBatchSize) {
  const auto module = torch::jit::load("exported/scripted_model.pt");
  const checkpoint::SafetensorsFile inputs((kGolden / "inputs32.safetensors").string());
  c10::Dict<std::string, at::Tensor> whole;
  for (const auto& [name, view] : inputs.tensors()) whole.insert(name, ToTensor(view));
  auto copy = module;
  const auto all = copy.forward({whole}).toGenericDict().at("logits").toTensor();
  for (const int64_t row : {0, 31}) {
    c10::Dict<std::string, at::Tensor> one;
    for (const auto& entry : whole) {
      const std::string name = entry.key();
      const at::Tensor value = entry.value();
      if (name.ends_with(".lengths")) {
        one.insert(name, value.narrow(0, row, 1));
      } else if (whole.contains(name.substr(0, name.rfind('.')) + ".lengths")) {
        const at::Tensor lengths = whole.at(name.substr(0, name.rfind('.')) + ".lengths");
        one.insert(name,
                   value.narrow(0, lengths.narrow(0, 0, row).sum().item<int64_t>(), lengths[row].item<int64_t>()));
      } else {
        one.insert(name, value.narrow(0, row, 1));
      }
    }
    EXPECT_NEAR(copy.forward({one}).toGenericDict().at("logits").toTensor().item<double>(), all[row].item<double>(),
                1e-6);
  }
}

TEST_F(ExportTest, RefusesAndLeavesNothing) {
  EXPECT_THROW(RunExport(Options("exported")), ConfigError);  // directory already exists
  setenv("QUANT_EMB", "INT3", 1);
  EXPECT_THROW(RunExport(Options("other")), ConfigError);
  setenv("QUANT_EMB", "0", 1);
  auto contradiction = Options("other");
  contradiction.settings.quantization = "INT8";
  EXPECT_THROW(RunExport(contradiction), ConfigError);
  auto options = Options("other");
  options.checkpoint_path = "nowhere";
  EXPECT_THROW(RunExport(options), ConfigError);
  options = Options("other");
  options.verify_max_abs_diff = -1;  // no model is that equal: nothing may be published
  options.publish.uri = "file://" + fs::absolute("never").string();
  EXPECT_THROW(RunExport(options), Error);
  EXPECT_FALSE(fs::exists("never"));
  EXPECT_FALSE(fs::exists("other"));
}

/// TorchEasyRec's artefacts with each number type of tables: same outputs, same model_acc.json.
TEST_F(ExportTest, QuantisedTablesGiveTheReferencesOutputs) {
  unsetenv("QUANT_EMB");
  const auto exact = torch::jit::load("exported/scripted_model.pt");
  for (const std::string type : {"default", "QUANT_EMB=FP16", "QUANT_EMB=INT4"}) {
    SCOPED_TRACE(type);
    const fs::path golden = kZoo / "deepfm/export" / type;
    const size_t equals = type.find('=');
    const Environment environment(equals == std::string::npos ? Variables{}
                                                              : Variables{{"QUANT_EMB", type.substr(equals + 1)}});
    const std::string folder = "exported." + type;
    fs::remove_all(folder);
    ASSERT_EQ(RunExport(Options(folder)), 0);
    auto module = torch::jit::load(folder + "/scripted_model.pt");
    const auto got = module.forward({Dictionary(golden / "inputs32.safetensors")}).toGenericDict();
    for (const auto& entry : Dictionary(golden / "outputs32.safetensors")) {
      EXPECT_LE((got.at(entry.key()).toTensor() - entry.value()).abs().max().item<double>(), 1e-6) << entry.key();
    }
    EXPECT_EQ(json::parse(std::ifstream(folder + "/model_acc.json")),
              json::parse(std::ifstream(golden / "model_acc.json")));
    EXPECT_LT(fs::file_size(folder + "/scripted_model.pt"), fs::file_size("exported/scripted_model.pt"));
    const json report = json::parse(std::ifstream(folder + "/export_report.json"));
    EXPECT_TRUE(report["passed"].get<bool>());
    // The loss is real (INT4 is coarse) and what the rounding costs is known for the metric, too.
    EXPECT_GT(report["quantization"]["max_abs_diff"].get<double>(), 0);
    EXPECT_LE(report["quantization"]["mean_abs_diff"], report["quantization"]["max_abs_diff"]);
    EXPECT_LT(report["quantization"]["max_abs_diff"].get<double>(), type == "QUANT_EMB=INT4" ? 5e-2 : 1e-3);
    EXPECT_NEAR(report["quantization"]["metrics_before"]["auc"], report["quantization"]["metrics_after"]["auc"],
                type == "QUANT_EMB=INT4" ? 2e-2 : 2e-3);
  }
}

/// A model with several heads, every number type.
TEST_F(ExportTest, MmoeGivesTheReferencesOutputs) {
  for (const std::string type : {"QUANT_EMB=0", "default", "QUANT_EMB=FP16", "QUANT_EMB=INT4"}) {
    SCOPED_TRACE(type);
    const fs::path golden = kZoo / "mmoe/export" / type;
    unsetenv("QUANT_EMB");
    const size_t equals = type.find('=');
    const Environment environment(equals == std::string::npos ? Variables{}
                                                              : Variables{{"QUANT_EMB", type.substr(equals + 1)}});
    const std::string folder = "mmoe." + type;
    fs::remove_all(folder);
    auto options = Options(folder);
    options.pipeline_config_path = (kZoo / "mmoe/pipeline.config").string();
    options.checkpoint_path = (golden / "scripted_state.safetensors").string();
    if (type != "QUANT_EMB=0")
      options.checkpoint_path = (kZoo / "mmoe/export/QUANT_EMB=0/scripted_state.safetensors").string();
    ASSERT_EQ(RunExport(options), 0);
    auto module = torch::jit::load(folder + "/scripted_model.pt");
    const auto got = module.forward({Dictionary(golden / "inputs32.safetensors")}).toGenericDict();
    const auto want = Dictionary(golden / "outputs32.safetensors");
    EXPECT_EQ(got.size(), want.size());
    for (const auto& entry : want) {
      EXPECT_LE((got.at(entry.key()).toTensor() - entry.value()).abs().max().item<double>(), 1e-6) << entry.key();
    }
    EXPECT_EQ(json::parse(std::ifstream(folder + "/model_acc.json")),
              json::parse(std::ifstream(golden / "model_acc.json")));
    EXPECT_EQ(json::parse(std::ifstream(folder + "/fg.json")), json::parse(std::ifstream(golden / "fg.json")));
  }
}

TEST_F(ExportTest, TwoBitTables) {
  const Environment environment(Variables{{"QUANT_EMB", "INT2"}});
  fs::remove_all("exported.INT2");
  ASSERT_EQ(RunExport(Options("exported.INT2")), 0);  // checked against the tables as LibTorch unpacks them
  EXPECT_EQ(json::parse(std::ifstream("exported.INT2/model_acc.json"))["QUANT_EMB"], "INT2");
}

/// One user, 32 items: what INPUT_TILE takes is what the plain model says of the user's features repeated.
TEST_F(ExportTest, UserFeaturesAreTiled) {
  setenv("QUANT_EMB", "0", 1);
  const auto whole = Dictionary(kGolden / "inputs32.safetensors");
  c10::Dict<std::string, at::Tensor> one_user, repeated;
  for (const auto& entry : whole) {
    const std::string name = entry.key(), feature = name.substr(0, name.rfind('.'));
    const bool user = feature == "user_id" || feature == "city" || feature == "age" || feature == "hist";
    const bool values = whole.contains(feature + ".lengths") && !name.ends_with(".lengths");
    at::Tensor value = entry.value();
    if (user) {
      value = values ? value.narrow(0, 0, whole.at(feature + ".lengths")[0].item<int64_t>()) : value.narrow(0, 0, 1);
      std::vector<int64_t> repeats(value.dim(), 1);
      repeats[0] = 32;
      repeated.insert(name, value.repeat(repeats));
    } else {
      repeated.insert(name, value);
    }
    one_user.insert(name, value);
  }
  one_user.insert("batch_size", at::scalar_tensor(32, at::kLong));
  auto plain = torch::jit::load("exported/scripted_model.pt");
  const at::Tensor expected = plain.forward({repeated}).toGenericDict().at("logits").toTensor();
  for (const std::string mode : {"2", "3"}) {
    const Environment environment(Variables{{"INPUT_TILE", mode}});
    const std::string folder = "exported.tile" + mode;
    fs::remove_all(folder);
    ASSERT_EQ(RunExport(Options(folder)), 0);
    auto module = torch::jit::load(folder + "/scripted_model.pt");
    const at::Tensor got = module.forward({one_user}).toGenericDict().at("logits").toTensor();
    EXPECT_LE((got - expected).abs().max().item<double>(), 1e-6) << mode;
    EXPECT_EQ(json::parse(std::ifstream(folder + "/model_acc.json"))["INPUT_TILE"], mode);
  }
}

TEST_F(ExportTest, PublishesVersionsAndMovesThePointerLast) {
  const fs::path root = fs::absolute("published");
  fs::remove_all(root);
  const auto store = io::OpenStore("file://" + root.string(), {});
  const auto first = io::Publish("exported", *store, {{"step", 1}, {"config_sha256", "abc"}});
  const json pointer = json::parse(std::ifstream(root / "latest"));
  EXPECT_EQ("file://" + (root / pointer["path"].get<std::string>()).string(), first.uri);
  EXPECT_EQ(pointer["sha256"], first.sha256);
  EXPECT_EQ(first.sent, first.bytes);
  const auto second = io::Publish("exported", *store, {{"step", 2}});
  EXPECT_NE(second.uri, first.uri);
  for (const auto& published : {first, second}) {
    const fs::path version = published.uri.substr(7);
    const json manifest = json::parse(std::ifstream(version / "MANIFEST.json"));
    EXPECT_EQ(io::FileSha256(version / "MANIFEST.json"), published.sha256);
    for (const json& file : manifest["files"]) {
      EXPECT_EQ(io::FileSha256(version / file["path"].get<std::string>()), file["sha256"]);
      EXPECT_EQ(fs::file_size(version / file["path"].get<std::string>()), file["bytes"]);
    }
  }
}

/// What a killed run left: a file is missing, another half written, a third damaged. Only these are sent again.
TEST_F(ExportTest, PublishesAgainOnlyWhatIsNotThere) {
  const fs::path root = fs::absolute("resumed");
  fs::remove_all(root);
  const auto store = io::OpenStore("file://" + root.string(), {});
  const json about = {{"step", 7}};
  const auto whole = io::Publish("exported", *store, about);
  const fs::path version = whole.uri.substr(7);
  fs::remove(version / "MANIFEST.json");
  fs::remove(version / "gm.code");
  std::string bytes = (std::ostringstream() << std::ifstream(version / "fg.json").rdbuf()).str();
  bytes[0] ^= 1;
  std::ofstream(version / "fg.json") << bytes;
  fs::resize_file(version / "pipeline.config", 3);
  std::ofstream(version / "scripted_model.pt.part") << "half";
  const auto again = io::Publish("exported", *store, about);
  EXPECT_EQ(again.uri, whole.uri);
  EXPECT_EQ(again.sha256, whole.sha256);
  int64_t missing = 0;
  for (const char* name : {"gm.code", "fg.json", "pipeline.config"}) {
    missing += static_cast<int64_t>(fs::file_size(fs::path("exported") / name));
    EXPECT_EQ(io::FileSha256(version / name), io::FileSha256(fs::path("exported") / name));
  }
  EXPECT_EQ(again.sent, missing);
  EXPECT_EQ(io::Publish("exported", *store, about).sent, 0);
}

TEST_F(ExportTest, DestinationsThatCannotBe) {
  EXPECT_THROW(io::OpenStore("gs://bucket/x", {}), ConfigError);
  EXPECT_THROW(io::OpenStore("s3:///x", {}), ConfigError);
  try {
    io::OpenStore("s3://key:top-secret@bucket/x", {});
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()).find("top-secret"), std::string::npos);
  }
}

TEST(Assets, ArePackedUnderTheirContentAndFoundWhereTheExportLies) {
  fs::remove_all("packed");
  fs::create_directories("packed");
  fs::create_directories("words");
  std::ofstream("words/colour.list.txt") << "red\ngreen\n";
  const std::string text =
      "feature_configs { id_feature { feature_name: 'colour' vocab_file: 'colour.list.txt' asset_dir: 'words' } }"
      "feature_configs { id_feature { feature_name: 'user' num_buckets: 7 } }";
  auto config = config::ParsePipelineConfig(text, "x").config;
  const std::string name = "colour.list_9045608503153ddd1df29acbd14097a5.txt";
  EXPECT_EQ(PackAssets(config, "packed", "/served"), (std::map<std::string, std::string>{{"words/colour.list.txt", name}}));
  EXPECT_EQ(io::FileSha256("packed/" + name), io::FileSha256("words/colour.list.txt"));
  EXPECT_EQ(config.feature_configs(0).id_feature().vocab_file(), name);
  EXPECT_EQ(config.feature_configs(0).id_feature().asset_dir(), "/served");
  config::SavePipelineConfig(config, "packed/pipeline.config");
  EXPECT_EQ(LoadExportConfig("packed").config.feature_configs(0).id_feature().asset_dir(), "packed");
  fs::remove("words/colour.list.txt");
  config = config::ParsePipelineConfig(text, "x").config;
  EXPECT_THROW(PackAssets(config, "packed", "/served"), ConfigError);
}

TEST(Settings, FormatsWithTablesOfTheirOwn) {
  unsetenv("QUANT_EMB");
  const auto read = [](const char* format, const char* quantization = "", const char* tile = "") {
    SettingFlags flags;
    flags.format = format;
    flags.quantization = quantization;
    flags.input_tile = tile;
    return ReadSettings(flags);
  };
  EXPECT_EQ(read("Distributed").input_tile, 3);
  EXPECT_FALSE(read("Distributed").dist_quant);
  EXPECT_TRUE(read("Distributed", "INT8").dist_quant);
  EXPECT_EQ(read("Distributed", "INT8").pooled, TableType::kFp32);
  EXPECT_EQ(read("RTP").pooled, TableType::kFp32);
  EXPECT_EQ(read("AOT").pooled, TableType::kInt8);
  EXPECT_THROW(read("RTP", "INT8"), ConfigError);
  EXPECT_THROW(read("RTP", "", "3"), ConfigError);
  EXPECT_THROW(read("Distributed", "INT4"), ConfigError);
  EXPECT_THROW(read("Distributed", "", "2"), ConfigError);
  {
    const Environment environment(Variables{{"DIST_QUANT", "INT8"}});
    EXPECT_TRUE(read("Distributed").dist_quant);
    EXPECT_FALSE(read("TorchScript").dist_quant);
    EXPECT_THROW(read("Distributed", "FP32"), ConfigError);
  }
  for (const Variables& wrong : {Variables{{"DIST_QUANT", "INT4"}}, Variables{{"MAX_EXPORT_BATCH_SIZE", "many"}},
                                 Variables{{"TRT_MAX_BATCH_SIZE", "0"}}, Variables{{"ENABLE_AOT", "3"}}}) {
    const Environment environment(wrong);
    EXPECT_THROW(read(""), ConfigError) << wrong.front().first;
  }
  const Environment environment(Variables{{"MAX_EXPORT_BATCH_SIZE", "64"}, {"ENABLE_TRT", "1"}});
  EXPECT_EQ(read("").max_batch, 64);
  EXPECT_EQ(read("").format, Format::kTensorRt);
  EXPECT_THROW(read("AOT"), ConfigError);
}

}  // namespace
}  // namespace anneal::exporting
