// What `anneal check` says about negative samplers.
#include "worker/config/sampler_settings.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "worker/config/error.h"
#include "worker/config/pipeline.h"
#include "worker/config/tree_sampler_settings.h"

namespace anneal::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// "path: message" of every fault under a sampler.
std::vector<std::string> Faults(const std::string& sampler, const std::string& model = "dssm { }") {
  const LoadedConfig loaded =
      ParsePipelineConfig("model_config { " + model + " } data_config { " + sampler + " }", "p");
  std::vector<std::string> faults;
  for (const Fault& fault : Validate(loaded)) {
    if (fault.path.find("sampler") != std::string::npos) faults.push_back(fault.path + ": " + fault.message);
  }
  return faults;
}

const char* const kItems = "num_sample: 4 attr_fields: ['a', 'b'] item_id_field: 'i' ";
const char* const kUsers = "item_input_path: 'x' user_input_path: 'y' user_id_field: 'u' ";
const std::string kGood[] = {
    std::string("negative_sampler { input_path: 'x' ") + kItems + "}",
    std::string("negative_sampler_v2 { pos_edge_input_path: 'p' ") + kUsers + kItems + "}",
    std::string("hard_negative_sampler { hard_neg_edge_input_path: 'h' num_hard_sample: 2 ") + kUsers + kItems + "}",
    std::string(
        "hard_negative_sampler_v2 { pos_edge_input_path: 'p' hard_neg_edge_input_path: 'h' num_hard_sample: 2 ") +
        kUsers + kItems + "}"};

TEST(SamplerRules, ModelsThatTakeOne) {
  for (const std::string& sampler : kGood) {
    for (const char* model : {"dssm { }", "dssm_v2 { }", "dat { }", "mind { }"})
      EXPECT_THAT(Faults(sampler, model), IsEmpty());
    const std::string name = sampler.substr(0, sampler.find(' '));
    for (const char* model : {"deepfm { }", "hstu_match { }", "tdm { }"}) {
      EXPECT_THAT(Faults(sampler, model), ElementsAre("data_config." + name + ": not supported yet"));
    }
  }
  EXPECT_THAT(Faults("tdm_sampler { }"), ElementsAre("data_config.tdm_sampler: is for tdm, not for this model"));
}

TEST(SamplerRules, Trees) {
  const std::string tree = "data_config.tdm_sampler",
                    tables = "item_input_path: 'n' edge_input_path: 'a' predict_edge_input_path: 'c' ";
  EXPECT_THAT(
      Faults("label_fields: 'y' tdm_sampler { " + tables + "item_id_field: 'i' layer_num_sample: [0, 3] }", "tdm { }"),
      IsEmpty());
  EXPECT_THAT(
      Faults("label_fields: 'y' tdm_sampler { item_input_path: '' edge_input_path: 'odps://p/tables/t' "
             "predict_edge_input_path: 'c' attr_fields: ['a', 'a'] item_id_field: '' attr_delimiter: '' "
             "field_delimiter: '' layer_num_sample: [1, 16777217] num_eval_sample: 0 remain_ratio: 1.5 "
             "probability_type: 'x' }",
             "tdm { }"),
      testing::UnorderedElementsAre(
          tree + ".item_input_path: is missing",
          tree + ".edge_input_path: 'odps://p/tables/t' is a table of MaxCompute: not supported yet, only local text "
                 "files are",
          tree + ".item_id_field: is missing", tree + ".attr_delimiter: must not be empty",
          tree + ".field_delimiter: must not be empty", tree + ".attr_fields[3]: 'a' is listed twice",
          tree + ".layer_num_sample[0]: has to be 0: the root has no other node beside it",
          tree + ".layer_num_sample[1]: must be at most 16777216",
          tree + ".num_eval_sample: has no meaning: layer_num_sample counts in evaluation, too",
          tree + ".remain_ratio: must be in [0, 1]",
          tree + ".probability_type: 'x' is not UNIFORM, ARITHMETIC or RECIPROCAL"));
  EXPECT_THAT(
      Faults("label_fields: 'y' tdm_sampler { " + tables + "item_id_field: 'i' layer_num_sample: [0] }", "tdm { }"),
      ElementsAre(tree + ".layer_num_sample: has 1 numbers: it needs one for each level from the root to the "
                         "leaves"));
}

TEST(SamplerSettings, OfATree) {
  const auto settings = [](const std::string& text) {
    const auto loaded = ParsePipelineConfig("data_config { tdm_sampler { " + text + " } }", "p");
    return TreeSamplerOf(loaded.config.data_config()).value();
  };
  EXPECT_THAT(settings("item_id_field: 'i' attr_fields: 'a'").attr_fields, ElementsAre("tree_level", "i", "a"));
  EXPECT_THAT(settings("item_id_field: 'i' attr_fields: ['tree_level', 'i']").attr_fields,
              ElementsAre("tree_level", "i"));
  EXPECT_THAT(settings("item_id_field: 'i' attr_fields: ['i', 'a']").attr_fields, ElementsAre("tree_level", "i", "a"));
  EXPECT_EQ(settings("layer_num_sample: [0, 1, 1, 1, 1, 1, 1]").RemainingLevels(), 5);
  EXPECT_EQ(settings("layer_num_sample: [0, 1, 1, 1, 1, 1, 1] remain_ratio: 0.3").RemainingLevels(), 2);
  EXPECT_EQ(settings("layer_num_sample: [0, 1, 1, 1, 1, 1, 1] remain_ratio: 0.5").RemainingLevels(), 2);
  EXPECT_FALSE(TreeSamplerOf({}));
}

TEST(SamplerRules, WhatIsMissingOrWrong) {
  EXPECT_THAT(
      Faults("negative_sampler { input_path: 'odps://p/tables/t' num_sample: 0 num_eval_sample: 0 "
             "attr_fields: ['a', 'b', 'a'] item_id_field: '' attr_delimiter: '' field_delimiter: '' }"),
      testing::UnorderedElementsAre(
          "data_config.negative_sampler.input_path: 'odps://p/tables/t' is a table of MaxCompute: not supported yet, "
          "only local text files are",
          "data_config.negative_sampler.num_sample: must be at least 1 and at most 16777216",
          "data_config.negative_sampler.num_eval_sample: must be at least 1 and at most 16777216",
          "data_config.negative_sampler.item_id_field: is missing",
          "data_config.negative_sampler.attr_delimiter: must not be empty",
          "data_config.negative_sampler.field_delimiter: must not be empty",
          "data_config.negative_sampler.attr_fields[2]: 'a' is listed twice"));
  const std::string hard = "data_config.hard_negative_sampler_v2";
  EXPECT_THAT(
      Faults("hard_negative_sampler_v2 { item_input_path: 'oss://x/y' num_sample: 16777217 user_input_path: '' "
             "pos_edge_input_path: '' hard_neg_edge_input_path: '' num_hard_sample: 0 item_id_field: 'i' "
             "user_id_field: '' }"),
      testing::UnorderedElementsAre(
          hard + ".item_input_path: 'oss://x/y' is no local file: only those are supported yet",
          hard + ".user_input_path: is missing", hard + ".pos_edge_input_path: is missing",
          hard + ".hard_neg_edge_input_path: is missing", hard + ".num_sample: must be at least 1 and at most 16777216",
          hard + ".num_hard_sample: must be at least 1 and at most 16777216", hard + ".user_id_field: is missing",
          hard + ": attr_fields is empty"));
}

TEST(SamplerRules, TablesThatAreNoFiles) {
  const std::string path = "items-" + std::to_string(getpid()) + ".txt";
  std::ofstream(path) << "x";
  tzrec::protos::DataConfig config;
  auto& sampler = *config.mutable_negative_sampler_v2();
  sampler.set_item_input_path(path);
  sampler.set_user_input_path(".");
  sampler.set_pos_edge_input_path("none.txt");
  std::vector<std::string> faults;
  CheckSamplerFiles(config,
                    [&](const std::string& at, const std::string& message) { faults.push_back(at + ": " + message); });
  EXPECT_THAT(faults, ElementsAre("data_config.negative_sampler_v2.user_input_path: . is no regular file",
                                  "data_config.negative_sampler_v2.pos_edge_input_path: there is no file none.txt"));
  std::filesystem::remove(path);
}

// Nobody writes into them: to open one would be to wait for ever.
TEST(Pipes, AreNoConfigsAndNoTables) {
  const std::string path = "pipe-" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  tzrec::protos::DataConfig config;
  config.mutable_negative_sampler()->set_input_path(path);
  std::vector<std::string> faults;
  CheckSamplerFiles(config,
                    [&](const std::string& at, const std::string& message) { faults.push_back(at + ": " + message); });
  EXPECT_THAT(faults, ElementsAre("data_config.negative_sampler.input_path: " + path + " is no regular file"));
  std::string message;
  try {
    LoadPipelineConfig(path);
  } catch (const ConfigError& error) {
    message = error.what();
  }
  EXPECT_EQ(message, path + " is no regular file");
  std::filesystem::remove(path);
}

TEST(SamplerSettings, OfAllKinds) {
  const auto settings = [](const std::string& text) {
    return SamplerOf(ParsePipelineConfig("data_config { " + text + " }", "p").config.data_config()).value();
  };
  const SamplerSettings plain = settings(kGood[0]), hard = settings(kGood[3]);
  EXPECT_EQ(plain.items.field, "data_config.negative_sampler.input_path");
  EXPECT_EQ(plain.attr_delimiter, ":");
  EXPECT_EQ(plain.field_delimiter, "\t");
  EXPECT_EQ(plain.item_id_delimiter, ";");
  EXPECT_EQ(plain.Count(false), 4u);
  EXPECT_FALSE(plain.users || plain.positive_edges || plain.hard_edges);
  EXPECT_EQ(hard.hard_edges->path, "h");
  EXPECT_EQ(hard.positive_edges->path, "p");
  EXPECT_EQ(hard.num_hard_sample, 2u);
  EXPECT_EQ(hard.user_id_field, "u");
  EXPECT_EQ(hard.Tables().size(), 4u);
  EXPECT_FALSE(SamplerOf({}));
}

}  // namespace
}  // namespace anneal::config
