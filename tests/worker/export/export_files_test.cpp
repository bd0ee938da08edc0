// What exports read from others (arrays, descriptions, reports, results) and the folder they are made in.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/export/checkpoint_choice.h"
#include "worker/export/dist_rows.h"
#include "worker/export/distributed.h"
#include "worker/export/export_folder.h"
#include "worker/export/npz_file.h"
#include "worker/export/release.h"
#include "worker/export/row_server_model.h"

namespace anneal::exporting {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string Slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void Spill(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// An empty folder.
fs::path Fresh(const std::string& name) {
  fs::remove_all(name);
  fs::create_directories(name);
  return fs::absolute(name);
}

/// The message of the error that `call` throws; empty when it throws none. Anything but an Error fails the test.
std::string Refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Calls `read` on `rounds` seeded changes of a file: flipped bits, foreign bytes, cut, doubled and lost pieces. It has
/// to read them or throw an Error. Returns how many were refused.
int Mutate(const fs::path& file, int rounds, const std::function<void()>& read) {
  const std::string whole = Slurp(file);
  std::mt19937 random(20251125);
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = whole;
    const size_t at = random() % bytes.size();
    switch (round % 5) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        break;
      case 1:
        for (int k = 0; k < 4; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 40));
        break;
      default:
        bytes.erase(at, random() % 40);
    }
    Spill(file, bytes);
    refused += !Refusal(read).empty();
  }
  Spill(file, whole);
  return refused;
}

fs::path WriteArrays(const fs::path& folder) {
  const fs::path path = folder / "arrays.npz";
  const std::vector<float> floats = {1, -2, 3.5f, 4, 5, 6};
  const std::vector<uint8_t> bytes = {1, 2, 250};
  const int64_t number = -7;
  NpzWriter arrays(path);
  arrays.Add("a.table", NpyType::kFloat32, {3, 2}, floats.data());
  arrays.Add("bytes", NpyType::kUint8, {3}, bytes.data());
  arrays.Add("number", NpyType::kInt64, {}, &number);
  arrays.Add("none", NpyType::kFloat32, {0, 4}, floats.data());
  arrays.Finish();
  return path;
}

TEST(Npz, ReadsWhatItWrote) {
  const auto arrays = ReadNpz(WriteArrays(Fresh("npz")));
  ASSERT_EQ(arrays.size(), 4u);
  EXPECT_EQ(arrays.at("a.table").type, NpyType::kFloat32);
  EXPECT_EQ(arrays.at("a.table").shape, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(reinterpret_cast<const float*>(arrays.at("a.table").bytes.data())[2], 3.5f);
  EXPECT_EQ(arrays.at("bytes").bytes, std::string("\x01\x02\xfa"));
  EXPECT_TRUE(arrays.at("number").shape.empty());
  EXPECT_EQ(reinterpret_cast<const int64_t*>(arrays.at("number").bytes.data())[0], -7);
  EXPECT_EQ(arrays.at("none").shape, (std::vector<int64_t>{0, 4}));
}

TEST(Npz, DamageIsNamed) {
  const fs::path folder = Fresh("npz_damaged"), path = WriteArrays(folder);
  const std::string whole = Slurp(path);
  const auto says = [&](const std::string& bytes) {
    Spill(path, bytes);
    return Refusal([&] { ReadNpz(path); });
  };
  std::string flipped = whole;
  flipped[flipped.find("bytes.npy") + 60] ^= 1;  // in the array behind the name
  EXPECT_NE(says(flipped).find("array 'bytes' is damaged"), std::string::npos) << says(flipped);
  EXPECT_NE(says(whole.substr(0, 200)).find("not written to its end"), std::string::npos);
  EXPECT_NE(says("").find("not written to its end"), std::string::npos);
  EXPECT_NE(says("PK").find("not written to its end"), std::string::npos);
  EXPECT_GT(Mutate(path, 3000, [&] { ReadNpz(path); }), 1000);
}

/// Stands for the dense graph.
class NoGraph : public ExportedModel {
 public:
  Tensors Run(const Tensors& data) const override { return data; }
};

fs::path WriteTables(const std::string& name) {
  const fs::path folder = Fresh(name);
  fs::create_directories(folder / "sparse");
  const std::vector<float> weights = {1, 2, 3, 4, 5, 6};
  NpzWriter arrays(folder / (std::string(kDistributedTables) + ".npz"));
  arrays.Add("tables.user", NpyType::kFloat32, {3, 2}, weights.data());
  const at::Tensor packed = PackDistRows(at::tensor(weights).reshape({3, 2}), "item");
  arrays.Add("tables.item", NpyType::kUint8, packed.sizes().vec(), packed.const_data_ptr());
  arrays.Finish();
  Spill(folder / "sparse/sparse_features.json",
        json{{"user__ebc", {{"embedding_name", "tables.user"}, {"pooling", "SUM"}}},
             {"item__ebc", {{"embedding_name", "tables.item"}, {"pooling", "MEAN"}}}}
            .dump());
  Spill(folder / "dense_meta.json", json{{"deep__ebc", {"item__ebc"}}, {"deep__ebc_user", {"user__ebc"}}}.dump());
  return folder;
}

TEST(RowServers, LookUpWhatTheFilesSay) {
  const auto model = OpenDistributed(WriteTables("rows"), std::make_unique<NoGraph>());
  Tensors data;
  data.insert("user.values", at::tensor({0, 2, 99}, at::kLong));  // 99 is outside: row 0
  data.insert("user.lengths", at::tensor({2, 0, 1}, at::kLong));
  data.insert("item.values", at::tensor({1, 2}, at::kLong));
  data.insert("item.lengths", at::tensor({2, 0, 0}, at::kLong));
  const Tensors blocks = model->Run(data);
  EXPECT_TRUE(at::equal(blocks.at("deep__ebc_user"), at::tensor({6.f, 8.f, 0.f, 0.f, 1.f, 2.f}).reshape({3, 2})));
  EXPECT_TRUE(
      at::allclose(blocks.at("deep__ebc"), at::tensor({4.f, 5.f, 0.f, 0.f, 0.f, 0.f}).reshape({3, 2}), 0, 1e-2));
}

TEST(RowServers, DescriptionsThatDoNotFitAreRefused) {
  const fs::path folder = WriteTables("rows_wrong");
  const auto open = [&] { OpenDistributed(folder, std::make_unique<NoGraph>()); };
  EXPECT_EQ(Refusal(open), "");
  const fs::path features = folder / "sparse/sparse_features.json";
  const std::string whole = Slurp(features);
  json wrong = json::parse(whole);
  wrong["item__ebc"]["embedding_name"] = "tables.gone";
  Spill(features, wrong.dump());
  EXPECT_NE(Refusal(open).find("block item__ebc: there is no table 'tables.gone'"), std::string::npos);
  Spill(features, whole);
  for (const char* name : {"dense_meta.json", "sparse/sparse_features.json"}) {
    SCOPED_TRACE(name);
    EXPECT_GT(Mutate(folder / name, 1000, open), 300);
  }
  EXPECT_GT(Mutate(folder / (std::string(kDistributedTables) + ".npz"), 1000, open), 300);
}

TEST(Release, ReportsOfAnyShapeAreReadOrRefused) {
  const fs::path folder = Fresh("report");
  const auto store = io::OpenStore("file://" + (Fresh("report_store") / "models").string(), {});
  const auto release = [&] { Release(folder, *store); };
  EXPECT_NE(Refusal(release).find("is no export"), std::string::npos);
  for (const char* text : {"", "[]", "{}", R"({"passed": "yes", "step": 1})", R"({"passed": true})",
                           R"({"passed": true, "step": "1"})", R"({"passed": false, "step": 1})"}) {
    Spill(folder / "export_report.json", text);
    EXPECT_NE(Refusal(release).find("does not say that the export passed"), std::string::npos) << text;
  }
  Spill(folder / "export_report.json", R"({"passed": true, "step": 1, "metrics": {"auc": 0.5}, "format": 3})");
  EXPECT_EQ(Refusal(release), "");
  EXPECT_GT(Mutate(folder / "export_report.json", 300, release), 100);
}

/// A model_dir with the checkpoints 10, 20 and 30 as far as choosing looks at them, and a results file.
class Choice : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = Fresh("choice");
    for (const char* step : {"10", "20", "30"}) fs::create_directories(dir_ / ("model.ckpt-" + std::string(step)));
    config_.set_model_dir(dir_.string());
    config_.mutable_export_config()->set_exporter_type("best");
  }
  void Results(const std::string& text) { Spill(dir_ / "train_eval_result_v2.txt", text); }
  std::string Chosen() {
    std::string chosen;
    const std::string refusal = Refusal([&] { chosen = fs::path(ChooseCheckpoint(config_, "")).filename(); });
    return refusal.empty() ? chosen : refusal;
  }

  fs::path dir_;
  tzrec::protos::EasyRecConfig config_;
};

TEST_F(Choice, BestOfOneMetric) {
  Results(
      "{\"auc\": 0.6, \"global_step\": 10}\n{\"auc\": 0.8, \"global_step\": 20}\n{\"auc\": NaN, \"global_step\": "
      "30}\n");
  EXPECT_EQ(Chosen(), "model.ckpt-20");
  config_.mutable_export_config()->set_metric_larger_is_better(false);
  EXPECT_EQ(Chosen(), "model.ckpt-10");
}

TEST_F(Choice, OfSeveralMetricsOneHasToBeNamed) {
  Results("{\"auc\": 0.6, \"loss\": 0.1, \"global_step\": 10}\n{\"auc\": 0.8, \"loss\": 0.2, \"global_step\": 20}\n");
  EXPECT_NE(Chosen().find("best_exporter_metric must be set"), std::string::npos);
  config_.mutable_export_config()->set_best_exporter_metric("loss");
  EXPECT_EQ(Chosen(), "model.ckpt-20");
  config_.mutable_export_config()->set_best_exporter_metric("recall");
  EXPECT_NE(Chosen().find("has no 'recall'"), std::string::npos);
}

TEST_F(Choice, WhatIsGoneOrUnknownIsNamed) {
  Results("{\"auc\": 0.9, \"global_step\": 5}\n");
  EXPECT_NE(Chosen().find("model.ckpt-5 is gone"), std::string::npos);
  config_.mutable_export_config()->set_exporter_type("newest");
  EXPECT_NE(Chosen().find("'newest' is not latest or best"), std::string::npos);
}

TEST_F(Choice, ResultFilesOfAnyContentAreReadOrRefused) {
  config_.mutable_export_config()->set_best_exporter_metric("auc");
  Results(
      "{\"auc\": 0.6, \"global_step\": 10}\n{\"auc\": null, \"global_step\": null}\n{\"auc\": 0.8, \"global_step\": "
      "20}\n");
  EXPECT_EQ(Chosen(), "model.ckpt-20");
  Mutate(dir_ / "train_eval_result_v2.txt", 1000, [&] { ChooseCheckpoint(config_, ""); });
}

TEST(Folder, IsThereWholeOrNotAtAll) {
  const fs::path parent = Fresh("folders");
  const fs::path target = parent / "model";
  {
    const ExportFolder folder(target);
    Spill(folder.path() / "half", "written");
    EXPECT_NE(Refusal([&] { ExportFolder other(target); }).find("another process is exporting to"), std::string::npos);
  }
  EXPECT_TRUE(fs::is_empty(parent));
  // What a killed run left is no obstacle.
  fs::create_directories(parent / ".model.unfinished/export");
  Spill(parent / ".model.unfinished/export/half", "written");
  {
    ExportFolder folder(target.string() + "/");
    fs::create_directories(folder.path() / "sub");
    Spill(folder.path() / "sub/file", "content");
    folder.Commit();
  }
  EXPECT_EQ(Slurp(target / "sub/file"), "content");
  EXPECT_FALSE(fs::exists(target / "half"));
  EXPECT_EQ(std::distance(fs::directory_iterator(parent), {}), 1);
  EXPECT_NE(Refusal([&] { ExportFolder again(target); }).find("already exist."), std::string::npos);
  EXPECT_NE(Refusal([&] { ExportFolder below(target / "sub/file/model"); }).find("cannot make"), std::string::npos);
  EXPECT_NE(Refusal([&] { ExportFolder nowhere(""); }).find("--export_dir is missing"), std::string::npos);
}

}  // namespace
}  // namespace anneal::exporting
