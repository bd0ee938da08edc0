// Publishing, packed assets, and the formats that settings ask for.
#include "worker/io/publish.h"

#include <fstream>
#include <map>

#include "tests/worker/export/export_fixture.h"
#include "worker/config/error.h"
#include "worker/export/assets.h"
#include "worker/io/digest.h"

namespace anneal::exporting {
namespace {

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
