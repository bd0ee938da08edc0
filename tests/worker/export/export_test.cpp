// Exports against TorchEasyRec's own (golden/zoo/*/export) and against the checkpoint.
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <fstream>
#include <functional>

#include "tests/worker/export/export_fixture.h"
#include "worker/config/error.h"
#include "worker/export/feature_dictionary.h"
#include "worker/export/verify.h"

namespace anneal::exporting {
namespace {

TEST_F(ExportTest, GivesTheReferencesOutputsAndFiles) {
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
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"deepfm", "rank_eval"}, {"mmoe", "multi_eval"}, {"dcn_v2", "rank_eval"}, {"multi_tower_din", "seq_eval"}};
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

/// A batch of one row.
c10::Dict<std::string, at::Tensor> RowOf(const c10::Dict<std::string, at::Tensor>& whole, int64_t row) {
  c10::Dict<std::string, at::Tensor> one;
  for (const auto& entry : whole) {
    const std::string name = entry.key();
    const at::Tensor value = entry.value();
    if (name.ends_with(".lengths")) {
      one.insert(name, value.narrow(0, row, 1));
    } else if (whole.contains(name.substr(0, name.rfind('.')) + ".lengths")) {
      const at::Tensor lengths = whole.at(name.substr(0, name.rfind('.')) + ".lengths");
      one.insert(name, value.narrow(0, lengths.narrow(0, 0, row).sum().item<int64_t>(), lengths[row].item<int64_t>()));
    } else {
      one.insert(name, value.narrow(0, row, 1));
    }
  }
  return one;
}

TEST_F(ExportTest, AnyBatchSize) {
  const auto module = torch::jit::load("exported/scripted_model.pt");
  const checkpoint::SafetensorsFile inputs((kGolden / "inputs32.safetensors").string());
  c10::Dict<std::string, at::Tensor> whole;
  for (const auto& [name, view] : inputs.tensors()) whole.insert(name, ToTensor(view));
  auto copy = module;
  const auto all = copy.forward({whole}).toGenericDict().at("logits").toTensor();
  for (const int64_t row : {0, 31}) {
    EXPECT_NEAR(copy.forward({RowOf(whole, row)}).toGenericDict().at("logits").toTensor().item<double>(),
                all[row].item<double>(), 1e-6);
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

/// The golden export of another model, every number type and `more`. `change` is made to its inputs.
void ExpectTheReferencesOutputs(const std::string& model, const std::string& rows,
                                const std::function<void(c10::Dict<std::string, at::Tensor>&)>& change = {},
                                const std::vector<std::string>& more = {}) {
  std::vector<std::string> types = {"QUANT_EMB=0", "default", "QUANT_EMB=FP16", "QUANT_EMB=INT4"};
  types.insert(types.end(), more.begin(), more.end());
  for (const std::string& type : types) {
    SCOPED_TRACE(type);
    const fs::path golden = kZoo / model / "export" / type;
    unsetenv("QUANT_EMB");
    const size_t equals = type.find('=');
    const Environment environment(
        equals == std::string::npos ? Variables{} : Variables{{type.substr(0, equals), type.substr(equals + 1)}});
    const std::string folder = model + "." + type;
    fs::remove_all(folder);
    auto options = Options(folder);
    options.pipeline_config_path = (kZoo / model / "pipeline.config").string();
    options.checkpoint_path = (kZoo / model / "export/QUANT_EMB=0/scripted_state.safetensors").string();
    options.verify_input_path = (kZoo / "data" / (rows + ".parquet")).string();
    ASSERT_EQ(RunExport(options), 0);
    auto module = torch::jit::load(folder + "/scripted_model.pt");
    auto inputs = Dictionary(golden / "inputs32.safetensors");
    if (change) change(inputs);
    const auto got = module.forward({inputs}).toGenericDict();
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

/// A model with several heads.
TEST_F(ExportTest, MmoeGivesTheReferencesOutputs) { ExpectTheReferencesOutputs("mmoe", "multi_eval"); }

/// The reference's export does not heed the weights of ids, ours does: equal where all are 1.
TEST_F(ExportTest, DcnV2GivesTheReferencesOutputs) {
  ExpectTheReferencesOutputs("dcn_v2", "rank_eval", [](c10::Dict<std::string, at::Tensor>& inputs) {
    for (const auto& entry : inputs) {
      if (entry.key().ends_with(".weights")) entry.setValue(at::ones_like(entry.value()));
    }
  });
}

/// Sequences and their tables.
TEST_F(ExportTest, SequencesGiveTheReferencesOutputs) {
  ExpectTheReferencesOutputs("multi_tower_din", "seq_eval", {}, {"QUANT_EC_EMB=INT8"});
  // Rows by themselves: each has a longest sequence of its own.
  const auto inputs = Dictionary(kZoo / "multi_tower_din/export/QUANT_EMB=0/inputs32.safetensors");
  auto module = torch::jit::load("multi_tower_din.QUANT_EMB=0/scripted_model.pt");
  const auto all = module.forward({inputs}).toGenericDict().at("logits").toTensor();
  for (const int64_t row : {0, 7, 31}) {
    EXPECT_NEAR(module.forward({RowOf(inputs, row)}).toGenericDict().at("logits").toTensor().item<double>(),
                all[row].item<double>(), 1e-6);
  }
  const checkpoint::SafetensorsFile state(
      (kZoo / "multi_tower_din/export/QUANT_EMB=0/scripted_state.safetensors").string());
  for (const auto& parameter : module.named_parameters()) {
    EXPECT_TRUE(state.tensors().count(parameter.name)) << parameter.name;
  }
}

TEST_F(ExportTest, FormatsWithoutSequencesSaySo) {
  ExportOptions options = Options("din.never");
  options.pipeline_config_path = (kZoo / "multi_tower_din/pipeline.config").string();
  for (const char* format : {"RTP", "Distributed"}) {
    options.settings.format = format;
    EXPECT_THROW(RunExport(options), ConfigError) << format;
  }
  EXPECT_FALSE(fs::exists("din.never"));
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

/// One user, 32 items: what INPUT_TILE takes is what the plain model, exported to `plain`, says of the user's features
/// repeated.
void ExpectTiles(const std::string& plain, const std::string& model, const std::string& rows,
                 const std::function<bool(const std::string&)>& is_user) {
  const auto whole = Dictionary(kZoo / model / "export/QUANT_EMB=0/inputs32.safetensors");
  c10::Dict<std::string, at::Tensor> one_user, repeated;
  for (const auto& entry : whole) {
    const std::string name = entry.key(), feature = name.substr(0, name.rfind('.'));
    const bool values = whole.contains(feature + ".lengths") && !name.ends_with(".lengths");
    at::Tensor value = entry.value();
    if (is_user(feature)) {
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
  const at::Tensor expected =
      torch::jit::load(plain + "/scripted_model.pt").forward({repeated}).toGenericDict().at("logits").toTensor();
  for (const std::string mode : {"2", "3"}) {
    const Environment environment(Variables{{"INPUT_TILE", mode}});
    const std::string folder = plain + ".tile" + mode;
    fs::remove_all(folder);
    auto options = Options(folder);
    options.pipeline_config_path = (kZoo / model / "pipeline.config").string();
    options.checkpoint_path = (kZoo / model / "export/QUANT_EMB=0/scripted_state.safetensors").string();
    options.verify_input_path = (kZoo / "data" / (rows + ".parquet")).string();
    ASSERT_EQ(RunExport(options), 0);
    auto module = torch::jit::load(folder + "/scripted_model.pt");
    const at::Tensor got = module.forward({one_user}).toGenericDict().at("logits").toTensor();
    EXPECT_LE((got - expected).abs().max().item<double>(), 1e-6) << mode;
    EXPECT_EQ(json::parse(std::ifstream(folder + "/model_acc.json"))["INPUT_TILE"], mode);
  }
}

TEST_F(ExportTest, UserFeaturesAreTiled) {
  ExpectTiles("exported", "deepfm", "multi_eval", [](const std::string& feature) {
    return feature == "user_id" || feature == "city" || feature == "age" || feature == "hist";
  });
}

/// Every feature of a sequence_feature is the user's, whatever its expression says.
TEST_F(ExportTest, SequencesAreTiled) {
  ExpectTiles("multi_tower_din.QUANT_EMB=0", "multi_tower_din", "seq_eval", [](const std::string& feature) {
    return feature == "user_id" || feature == "city" || feature == "age" || feature.starts_with("click_seq__");
  });
}

/// A checkpoint of the golden state with some tensors changed or left out.

}  // namespace
}  // namespace anneal::exporting
