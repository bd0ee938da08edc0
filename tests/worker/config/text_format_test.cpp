// What Python's text-format parser takes, faults with their places, and edits.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "worker/config/edit.h"
#include "worker/config/pipeline.h"

namespace anneal::config {
namespace {

namespace fs = std::filesystem;

tzrec::protos::EasyRecConfig Parse(const std::string& text) { return ParsePipelineConfig(text, "t.config").config; }

std::vector<Fault> FaultsOf(const std::string& text) {
  try {
    ParsePipelineConfig(text, "t.config");
  } catch (const ConfigFaults& faults) {
    return faults.faults();
  }
  return {};
}

TEST(TextFormat, TakesWhatPythonTakes) {
  const auto config = Parse(R"(
train_input_path: 'a' "b"  # a comment
model_dir: "\x1d\n\101";
train_config < num_steps: 0x10, use_tensorboard: f >
data_config: { batch_size: 8; with_header: True label_fields: ["x", 'y'] dataset_type: 3 fg_mode: FG_DAG }
feature_configs { raw_feature { feature_name: "r" expression: "user:r" boundaries: [.5, 1e-3, 2f, -inf] } }
feature_configs: [{ id_feature { feature_name: "i" vocab_dict: [{key: "a" value: 2}, {key: "b" value: 3}] } }]
model_dir: "last"
model_config { mmoe { num_expert: 2 } deepfm { deep { hidden_units: [4, 2] } } }
)");
  EXPECT_EQ(config.train_input_path(), "ab");
  EXPECT_EQ(config.model_dir(), "last");  // a repeated singular field: the last one wins
  EXPECT_EQ(config.train_config().num_steps(), 16u);
  EXPECT_FALSE(config.train_config().use_tensorboard());
  EXPECT_TRUE(config.data_config().with_header());
  EXPECT_EQ(config.data_config().label_fields_size(), 2);
  EXPECT_EQ(config.data_config().dataset_type(), tzrec::protos::CsvDataset);
  ASSERT_EQ(config.feature_configs(0).raw_feature().boundaries_size(), 4);
  EXPECT_FLOAT_EQ(config.feature_configs(0).raw_feature().boundaries(1), 1e-3f);
  EXPECT_EQ(config.feature_configs(1).id_feature().vocab_dict().at("b"), 3u);
  EXPECT_TRUE(config.model_config().has_deepfm());  // the second member of the oneof wins
  EXPECT_FALSE(config.model_config().has_mmoe());
}

TEST(TextFormat, RequiredFieldsAreNotEnforced) {
  EXPECT_EQ(Parse("").train_config().sparse_optimizer().adagrad_optimizer().lr(), 0.002f);
}

TEST(TextFormat, FgEncodedIsRewritten) {
  EXPECT_EQ(Parse("data_config { fg_encoded: false }").data_config().fg_mode(), tzrec::protos::FG_DAG);
  EXPECT_EQ(Parse("data_config { fg_encoded: false fg_threads: 0 }").data_config().fg_mode(), tzrec::protos::FG_NORMAL);
  EXPECT_EQ(Parse("data_config { fg_encoded: true fg_mode: FG_DAG }").data_config().fg_mode(), tzrec::protos::FG_NONE);
}

TEST(TextFormat, AllFaultsAtOnceWithTheirPlaces) {
  const auto faults = FaultsOf(
      "model_dirr: \"x\"\ntrain_config {\n  num_steps: \"ten\"\n  use_tensorboard: maybe\n}\ndata_config {\n  "
      "dataset_type: ParquetDatset\n  batch_size: -1\n}\n");
  ASSERT_EQ(faults.size(), 5u);
  EXPECT_EQ(faults[0].at.line, 1);
  EXPECT_EQ(faults[0].at.column, 1);
  EXPECT_NE(faults[0].message.find("did you mean 'model_dir'?"), std::string::npos);
  EXPECT_EQ(faults[1].path, "train_config.num_steps");
  EXPECT_EQ(faults[1].at.line, 3);
  EXPECT_EQ(faults[1].at.column, 14);
  EXPECT_EQ(faults[2].at.line, 4);
  EXPECT_NE(faults[3].message.find("did you mean 'ParquetDataset'?"), std::string::npos);
  EXPECT_EQ(faults[4].path, "data_config.batch_size");
}

TEST(TextFormat, TextsAreUtf8) {
  EXPECT_EQ(Parse("model_dir: 'd\xC3\xA9 \\346\\227\\245 \xF0\x9F\x98\x80'").model_dir(), "d\u00e9 \u65e5 \U0001F600");
  // A lone continuation, a long form of '/', a surrogate, what is above the last character, a text that ends too early.
  for (const char* bad : {"\\377", "\\x80", "\\xC0\\xAF", "\\xED\\xA0\\x80", "\\xF4\\x90\\x80\\x80", "\\xE6\\x97"}) {
    const auto faults = FaultsOf(std::string("model_dir: 'ok'\ntrain_input_path: 'a") + bad + "'");
    ASSERT_EQ(faults.size(), 1u) << bad;
    EXPECT_EQ(FaultLine("t.config", faults[0]), "t.config:2:19: train_input_path: is not UTF-8");
  }
}

TEST(TextFormat, UnknownBlocksAreSkippedWhole) {
  const auto faults = FaultsOf("modell_config { deepfm { deep { hidden_units: [1, 2] } } }\nmodel_dir: 5\n");
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_EQ(faults[1].at.line, 2);
}

TEST(TextFormat, BrokenTextsFailAndDoNotCrash) {
  for (const char* text : {"train_config {", "}", "model_dir: \"open", "train_config { num_steps: [1 }", "a b c",
                           "model_dir:", "data_config: [", "\"", "train_config: 3"}) {
    EXPECT_FALSE(FaultsOf(text).empty()) << text;
  }
  std::string deep;
  for (int i = 0; i < 3000; ++i) deep += "model_config{";
  EXPECT_FALSE(FaultsOf(deep).empty());
}

TEST(TextFormat, MutatedConfigsNeverCrash) {
  const std::string good = ReadTextFile(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config");
  std::mt19937 random(7);
  for (int round = 0; round < 400; ++round) {
    std::string text = good;
    for (int k = 0; k < 5; ++k) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text.erase(at, random() % 20);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 30));
      }
      if (text.empty()) text = "x";
    }
    try {
      const auto loaded = ParsePipelineConfig(text, "fuzz.config");
      Validate(loaded);
    } catch (const ConfigError&) {
    }
  }
}

TEST(Validate, NamesFieldAndLine) {
  const auto loaded =
      ParsePipelineConfig(ReadTextFile(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config"), "p");
  EXPECT_TRUE(Validate(loaded).empty());
  struct Case {
    const char* edit;
    const char* message;
  };
  for (
      const Case& c :
      {Case{R"({"train_config.num_steps": 5})", "must not be set together"},
       Case{R"({"model_config.feature_groups[0].feature_names[0]": "user_idd"})", "did you mean 'user_id'?"},
       Case{R"({"model_config.use_pareto_loss_weight": true})",
            "use_pareto_loss_weight: needs a model with task_towers"},
       Case{R"({"feature_configs[0].id_feature.embedding_dim": 0})", "embedding_dim must be more than 0"},
       Case{R"({"data_config.dataset_type": "OdpsDataset"})", "OdpsDataset: not supported yet"},
       Case{R"({"train_config.tensorboard_summaries": ["los"]})", "did you mean 'loss'?"},
       Case{R"({"model_config.deepfm.deep.dropout_ratio": [0.1, 0.1, 0.1]})", "3 values for 2 hidden_units"},
       Case{R"({"feature_configs[0].id_feature.num_buckets": 5})", "only one of hash_bucket_size"},
       Case{R"({"train_config.delta_embedding_dump_config": "{ dump_interval_steps: 0 }"})",
            "dump_interval_steps: must be at least 1"},
       Case{R"({"train_config.delta_embedding_dump_config": "{ dump_interval_steps: 5 dump_interval_minutes: 5 }"})",
            "dump_interval_steps and dump_interval_minutes must not be set together"},
       Case{R"({"train_config.delta_embedding_dump_config": "{ file_prefix: 'a/b' }"})",
            "file_prefix: must be the beginning of a file name"},
       Case{R"({"train_config.delta_embedding_dump_config": "{ feature_store_config { } }"})",
            "feature_store_config: not supported yet"},
       Case{
           R"({"train_config.save_checkpoints_timestamp_interval": 60, "train_config.save_checkpoints_timestamp_quorum": 0})",
           "save_checkpoints_timestamp_quorum: must be more than 0 and at most 1"},
       Case{R"({"model_config.deepfm.deep.hidden_units": [64, 0]})", "hidden_units: must be at least 1"},
       Case{R"({"train_config.sparse_optimizer.adam_optimizer.lr": -0.1})", "adam_optimizer.lr: must not be negative"},
       Case{R"({"train_config.dense_optimizer": "{ adam_optimizer { lr: nan } constant_learning_rate { } }"})",
            "adam_optimizer.lr: is no number"},
       Case{R"({"train_config.dense_optimizer": "{ adam_optimizer { beta1: 1.5 } constant_learning_rate { } }"})",
            "beta1: must be at least 0 and less than 1"},
       Case{R"({"export_config": "{ exporter_type: 'foo' }"})", "exporter_type: 'foo' is not latest or best"},
       Case{R"({"data_config.dataset_type": "CsvDataset"})", "CSV needs with_header or the column names"},
       Case{R"({"data_config.dataset_type": "CsvDataset", "data_config.delimiter": "||"})", "is not one character"},
       Case{R"({"model_config.hstu_match": ""})", "hstu_match: not supported yet"}}) {
    LoadedConfig edited = loaded;
    EditConfig(edited.config, c.edit);
    std::string all;
    for (const Fault& fault : Validate(edited)) all += FaultLine("p", fault) + "\n";
    EXPECT_NE(all.find(c.message), std::string::npos) << c.edit << "\n" << all;
  }
}

// A line of the file would show what the edit has replaced.
TEST(Checked, FaultsOfEditsPointAtNoLine) {
  std::string text = ReadTextFile(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config");
  text.replace(text.find("feature_names: \"user_id\""), 24, "feature_names: \"user_idd\"");
  Overrides overrides;
  overrides.edit_config_json = R"({"feature_configs[0].id_feature.embedding_dim": 0})";
  try {
    CheckedConfig(text, "p", overrides);
    FAIL() << "good";
  } catch (const ConfigFaults& faults) {
    ASSERT_EQ(faults.faults().size(), 2u) << faults.what();
    const std::string all = faults.what();
    EXPECT_EQ(all.find("p: feature_configs[0].id_feature: feature 'user_id': embedding_dim must be more than 0 (after"),
              0u)
        << all;
    EXPECT_GT(faults.faults()[1].at.line, 0) << all;
    EXPECT_EQ(all.find("after the config edits"), all.rfind("after the config edits")) << all;
  }
}

TEST(Checked, WhatCannotBeReadDoesNotHideTheRest) {
  std::string text = ReadTextFile(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config");
  const auto replace = [&](const std::string& from, const std::string& to) {
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
  };
  replace("num_epochs:", "num_epoch:");
  replace("feature_names: \"user_id\"", "feature_names: \"user_idd\"");
  text +=
      "feature_configs { id_feature { feature_name: \"extra\" expression: \"user:extra\" num_buckets: 4 embedding_dim: "
      "-8 } }\n";
  std::string all;
  try {
    CheckedConfig(text, "p", {});
  } catch (const ConfigFaults& faults) {
    all = faults.what();
    EXPECT_EQ(faults.faults().size(), 3u) << all;
  }
  EXPECT_NE(all.find("did you mean 'num_epochs'?"), std::string::npos) << all;
  EXPECT_NE(all.find("did you mean 'user_id'?"), std::string::npos) << all;
  EXPECT_NE(all.find("found '-8'"), std::string::npos) << all;
}

TEST(Edit, PathsAndValues) {
  tzrec::protos::EasyRecConfig config = Parse(R"(
train_config { num_steps: 1 }
feature_configs { id_feature { feature_name: "a" embedding_dim: 4 } }
feature_configs { id_feature { feature_name: "b" embedding_dim: 8 } }
feature_configs { id_feature { feature_name: "c" embedding_dim: 16 } }
data_config { label_fields: "x" }
)");
  EditConfig(
      config,
      R"({"train_config.num_steps": 7, "feature_configs[id_feature.feature_name=b].id_feature.embedding_dim": "9",
    "feature_configs[id_feature.embedding_dim>=16].id_feature.num_buckets": 3, "feature_configs[0:2].id_feature.pooling": "mean",
    "data_config.label_fields": ["p", "q"], "train_config.use_tensorboard": "False", "model_dir;eval_input_path": "m;e",
    "data_config.dataset_type": "CsvDataset", "train_config.sparse_optimizer": "{sgd_optimizer {lr: 0.5} constant_learning_rate {}}"})");
  EXPECT_EQ(config.train_config().num_steps(), 7u);
  EXPECT_EQ(config.feature_configs(1).id_feature().embedding_dim(), 9u);
  EXPECT_EQ(config.feature_configs(0).id_feature().embedding_dim(), 4u);
  EXPECT_EQ(config.feature_configs(2).id_feature().num_buckets(), 3u);
  EXPECT_EQ(config.feature_configs(1).id_feature().pooling(), "mean");
  EXPECT_EQ(config.feature_configs(2).id_feature().pooling(), "sum");
  ASSERT_EQ(config.data_config().label_fields_size(), 2);
  EXPECT_EQ(config.data_config().label_fields(1), "q");
  EXPECT_FALSE(config.train_config().use_tensorboard());
  EXPECT_EQ(config.model_dir(), "m");
  EXPECT_EQ(config.eval_input_path(), "e");
  EXPECT_EQ(config.data_config().dataset_type(), tzrec::protos::CsvDataset);
  EXPECT_FLOAT_EQ(config.train_config().sparse_optimizer().sgd_optimizer().lr(), 0.5f);
}

TEST(Edit, FaultsNameThePath) {
  tzrec::protos::EasyRecConfig config;
  for (const char* edit : {"[]", R"({"train_config.nope": 1})", R"({"train_config.num_steps": "many"})",
                           R"({"feature_configs[3].id_feature": ""})", R"({"train_config.use_tensorboard": "yes"})"}) {
    EXPECT_THROW(EditConfig(config, edit), ConfigError) << edit;
  }
}

TEST(Save, RoundTrip) {
  const auto config = LoadPipelineConfig(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/pipeline.config").config;
  SavePipelineConfig(config, "saved.config");
  EXPECT_EQ(LoadPipelineConfig("saved.config").config.SerializeAsString(), config.SerializeAsString());
}

TEST(Golden, EveryConfigParses) {
  const fs::path golden = fs::path(ANNEAL_SOURCE_DIR) / "../shared/golden";
  if (!fs::exists(golden)) GTEST_SKIP() << "the golden files are not on this machine";
  int configs = 0;
  for (const auto& entry : fs::recursive_directory_iterator(golden)) {
    if (entry.path().extension() != ".config") continue;
    EXPECT_NO_THROW(LoadPipelineConfig(entry.path())) << entry.path();
    ++configs;
  }
  EXPECT_GT(configs, 40);
}

}  // namespace
}  // namespace anneal::config
