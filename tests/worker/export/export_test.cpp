// Exports against TorchEasyRec's own (golden/zoo/deepfm/export/QUANT_EMB=0) and against the checkpoint.
#include "worker/export/export.h"

#include <ATen/ATen.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/export/assets.h"
#include "worker/export/feature_dictionary.h"
#include "worker/export/verify.h"
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

/// The configuration of an export is the reference's, but for where things lie.
void ExpectSameConfig(const fs::path& ours, const fs::path& golden) {
  auto config = config::LoadPipelineConfig(ours).config, wanted = config::LoadPipelineConfig(golden).config;
  wanted.set_model_dir(config.model_dir());
  std::string difference;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(wanted, config)) << difference;
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
  ExpectSameConfig("exported/pipeline.config", kGolden / "pipeline.config");
  const json report = json::parse(std::ifstream("exported/export_report.json"));
  EXPECT_TRUE(report["passed"].get<bool>());
  EXPECT_GT(report["rows"].get<int>(), 1000);
}

/// What our reader and feature generation hand to an export is what the reference hands to its own.
TEST_F(ExportTest, InputsAreTheReferences) {
  const std::vector<std::pair<std::string, std::string>> cases = {{"deepfm", "rank_eval"}, {"mmoe", "multi_eval"}};
  for (const auto& [model, rows] : cases) {
    SCOPED_TRACE(model);
    auto config = config::LoadPipelineConfig(kZoo / model / "pipeline.config").config;
    config.mutable_data_config()->set_batch_size(32);
    const auto features = features::FeatureSet::FromConfig(config);
    data::BatchStream stream = OpenRows(config, features, kZoo / "data" / (rows + ".parquet"));
    const auto batch = stream.Next();
    const auto ours = FeatureDictionary(*batch, features);
    const auto golden = Dictionary(kZoo / model / "export/QUANT_EMB=0/inputs32.safetensors");
    EXPECT_EQ(ours.size(), golden.size());
    for (const auto& entry : golden) {
      ASSERT_TRUE(ours.contains(entry.key())) << entry.key();
      EXPECT_EQ(ours.at(entry.key()).scalar_type(), entry.value().scalar_type()) << entry.key();
      EXPECT_TRUE(at::equal(ours.at(entry.key()), entry.value())) << entry.key();
    }
  }
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
  for (const char* left : {"other", "other.rejected.json", "never"}) fs::remove_all(left);  // by an earlier run
  EXPECT_THROW(RunExport(Options("exported")), ConfigError);                                // directory already exists
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
  EXPECT_TRUE(fs::exists("other.rejected.json"));
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
    EXPECT_EQ(json::parse(std::ifstream(folder + "/fg.json")), json::parse(std::ifstream(golden / "fg.json")));
    ExpectSameConfig(folder + "/pipeline.config", golden / "pipeline.config");
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
    ExpectSameConfig(folder + "/pipeline.config", golden / "pipeline.config");
  }
}

TEST_F(ExportTest, TwoBitTables) {
  const Environment environment(Variables{{"QUANT_EMB", "INT2"}});
  fs::remove_all("exported.INT2");
  ASSERT_EQ(RunExport(Options("exported.INT2")), 0);  // checked against the tables as LibTorch unpacks them
  EXPECT_EQ(json::parse(std::ifstream("exported.INT2/model_acc.json"))["QUANT_EMB"], "INT2");
}

/// What a sequence of ids needs, a row for each id: bags of one. With every number type, on the graph that was saved.
TEST_F(ExportTest, TablesGiveTheRowsOfSingleIds) {
  const std::vector<std::pair<std::string, TableType>> folders = {{"exported", TableType::kFp32},
                                                                  {"exported.QUANT_EMB=FP16", TableType::kFp16},
                                                                  {"exported.default", TableType::kInt8},
                                                                  {"exported.QUANT_EMB=INT4", TableType::kInt4},
                                                                  {"exported.INT2", TableType::kInt2}};
  const std::string name = "model.embedding_group.emb_impls.__BASE__.ebc.embedding_bags.item_id_emb.weight";
  const auto state = Dictionary(kGolden / "scripted_state.safetensors");
  const at::Tensor ids = at::tensor({0, 5, 5, 199, 3}, at::kLong);
  double coarser = -1;
  for (const auto& [folder, type] : folders) {
    SCOPED_TRACE(folder);
    auto module = torch::jit::load(folder + "/scripted_model.pt");
    at::Tensor table;
    for (const auto& entry : module.named_parameters()) table = entry.name == name ? entry.value : table;
    for (const auto& entry : module.named_buffers()) table = entry.name == name ? entry.value : table;
    ASSERT_TRUE(table.defined());
    const at::Tensor rows = module.get_method("bag")({table, ids, at::ones_like(ids), c10::IValue(), false}).toTensor();
    EXPECT_EQ(rows.scalar_type(), at::kFloat);
    EXPECT_LE((rows - at::index_select(UnpackTable(table, type), 0, ids)).abs().max().item<double>(), 1e-7);
    const double lost = (rows - at::index_select(state.at(name), 0, ids)).abs().max().item<double>();
    EXPECT_GT(lost, coarser);
    coarser = lost;
  }
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

/// A checkpoint of the golden state with some tensors changed or left out.
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
  EXPECT_EQ(PackAssets(config, "packed", "/served"),
            (std::map<std::string, std::string>{{"words/colour.list.txt", name}}));
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
  {
    const Environment environment(Variables{{"DIST_QUANT", "NONE"}});
    EXPECT_FALSE(read("Distributed").dist_quant);
    EXPECT_THROW(read("Distributed", "INT8"), ConfigError);
  }
  {
    const Environment environment(Variables{{"INPUT_TILE_3_ONLINE", "1"}});
    EXPECT_EQ(read("TorchScript", "", "3").input_tile, 3);
    EXPECT_THROW(read("TorchScript", "", "2"), ConfigError);
    EXPECT_THROW(read("TorchScript"), ConfigError);
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
