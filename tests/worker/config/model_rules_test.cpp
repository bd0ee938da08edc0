// What `anneal check` says about a model's own settings: every fault with the path of its field.
#include "worker/config/model_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "worker/config/pipeline.h"

namespace anneal::config {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string kGroups =
    "feature_groups { group_name: 'deep' group_type: DEEP } feature_groups { group_name: 'wide' group_type: WIDE } "
    "feature_groups { group_name: 'seq' group_type: SEQUENCE } ";

/// "path: message" of every fault of model_config's text, with two labels and a sample weight in the data. Paths are
/// without "model_config.".
std::vector<std::string> Faults(const std::string& model, const std::string& groups = kGroups) {
  const LoadedConfig loaded = ParsePipelineConfig(
      "data_config { label_fields: ['clk', 'buy'] sample_weight_fields: 'w' } model_config { " + groups + model + "}",
      "p");
  std::vector<std::string> faults;
  CheckModel(loaded.config,
             [&](const std::string& path, const std::string& message) {
               const std::string root = "model_config.";
               faults.push_back((path.starts_with(root) ? path.substr(root.size()) : path) + ": " + message);
             },
             {[](const std::string&) { return ""; }, [](const std::string&) { return 0; }});
  return faults;
}

const std::string kLoss = " losses { binary_cross_entropy { } } ";

TEST(ModelRules, MultiTower) {
  EXPECT_THAT(Faults("multi_tower { towers { input: 'deep' mlp { hidden_units: 4 } } "
                     "towers { input: 'wide' mlp { hidden_units: 4 } } final { hidden_units: 4 } }" +
                     kLoss),
              IsEmpty());
  EXPECT_THAT(Faults("multi_tower { towers { input: 'dep' mlp { hidden_units: 4 } } towers { input: 'deep' } "
                     "towers { input: 'deep' mlp { hidden_units: [4, 0] } } "
                     "towers { input: 'seq' mlp { hidden_units: 4 } } }" +
                     kLoss),
              ElementsAre("multi_tower.towers[0].input: there is no feature group 'dep' (did you mean 'deep'?)",
                          "multi_tower.towers[1].mlp: hidden_units is empty",
                          "multi_tower.towers[2].input: there is another tower of group 'deep'",
                          "multi_tower.towers[2].mlp.hidden_units: must be at least 1",
                          "multi_tower.towers[3].input: feature group 'seq' is SEQUENCE, not DEEP or WIDE",
                          "multi_tower.final: hidden_units is empty"));
  EXPECT_THAT(Faults("multi_tower { final { hidden_units: 4 } }"),
              ElementsAre("multi_tower: there are no towers", "model_config: losses is empty"));
}

TEST(ModelRules, MultiTowerDin) {
  const std::string towers = "towers { input: 'deep' mlp { hidden_units: 4 } } final { hidden_units: 4 } ";
  EXPECT_THAT(
      Faults("multi_tower_din { din_towers { input: 'seq' attn_mlp { hidden_units: 4 } } " + towers + "}" + kLoss),
      IsEmpty());
  EXPECT_THAT(Faults("multi_tower_din { din_towers { input: 'deep' attn_mlp { use_bn: true use_ln: true } } "
                     "din_towers { input: 'click' attn_mlp { hidden_units: 4 } } " +
                     towers + "}" + kLoss),
              ElementsAre("multi_tower_din.din_towers[0].input: feature group 'deep' is DEEP, not SEQUENCE",
                          "multi_tower_din.din_towers[0].attn_mlp: hidden_units is empty",
                          "multi_tower_din.din_towers[0].attn_mlp: use_bn and use_ln exclude each other",
                          "multi_tower_din.din_towers[1].input: there is no feature group 'click'"));
}

TEST(ModelRules, MaskNet) {
  EXPECT_THAT(Faults("mask_net { mask_net_module { n_mask_blocks: 2 mask_block { hidden_dim: 4 } "
                     "top_mlp { hidden_units: 4 } } }" +
                     kLoss),
              IsEmpty());
  EXPECT_THAT(
      Faults("mask_net { mask_net_module { n_mask_blocks: 0 mask_block { reduction_ratio: 0 hidden_dim: 0 } } }" +
             kLoss),
      ElementsAre("mask_net.mask_net_module.n_mask_blocks: must be at least 1",
                  "mask_net.mask_net_module.mask_block.hidden_dim: must be at least 1",
                  "mask_net.mask_net_module.mask_block: needs a reduction_ratio or an aggregation_dim of more "
                  "than 0",
                  "mask_net.mask_net_module: needs a top_mlp"));
}

TEST(ModelRules, Dbmtl) {
  const std::string first = "task_towers { tower_name: 'ctr' label_name: 'clk'" + kLoss + "} ";
  EXPECT_THAT(Faults("dbmtl { expert_mlp { hidden_units: 4 } " + first +
                     "task_towers { tower_name: 'cvr' label_name: 'buy' relation_tower_names: 'ctr' "
                     "relation_mlp { hidden_units: 4 }" +
                     kLoss + "} }"),
              IsEmpty());
  EXPECT_THAT(
      Faults("dbmtl { mask_net { n_mask_blocks: 1 mask_block { reduction_ratio: -1 hidden_dim: 4 } } bottom_mlp { } "
             "expert_mlp { hidden_units: 4 } num_expert: 0 " +
             first + "task_towers { tower_name: 'ctr' label_name: 'bux' sample_weight_name: 'other' " +
             "relation_tower_names: ['ctr', 'cvr'] relation_mlp { hidden_units: 4 }" + kLoss +
             "} task_towers { tower_name: 'a.b' label_name: 'buy' } }"),
      ElementsAre("dbmtl.mask_net.mask_block.reduction_ratio: must not be negative",
                  "dbmtl.bottom_mlp: hidden_units is empty", "dbmtl.num_expert: must be at least 1",
                  "dbmtl.task_towers[1].tower_name: the name 'ctr' is used twice",
                  "dbmtl.task_towers[1].label_name: 'bux' is not in data_config.label_fields (did you mean 'buy'?)",
                  "dbmtl.task_towers[1].sample_weight_name: 'other' is not in data_config.sample_weight_fields",
                  "dbmtl.task_towers[2]: losses is empty",
                  "dbmtl.task_towers[1].relation_tower_names[1]: no tower 'cvr' stands before this one (did you mean "
                  "'ctr'?)",
                  "dbmtl.task_towers[2].tower_name: 'a.b' has a dot, and parameters are named after it"));
}

TEST(ModelRules, Tdm) {
  const std::string plain = "feature_groups { group_name: 'user' group_type: DEEP } ",
                    sequence = "feature_groups { group_name: 'clicks' group_type: SEQUENCE } ";
  const std::string model =
      "tdm { multiwindow_din { windows_len: [1, 2] attn_mlp { hidden_units: 4 } } final { hidden_units: 4 } }" + kLoss;
  EXPECT_THAT(Faults(model, sequence + plain), IsEmpty());
  EXPECT_THAT(Faults(model, plain), ElementsAre("tdm: needs a SEQUENCE group"));
  EXPECT_THAT(
      Faults(model, kGroups + sequence),
      ElementsAre("feature_groups[3].group_type: this model reads one SEQUENCE group, and 'seq' is one already"));
  EXPECT_THAT(Faults("tdm { multiwindow_din { attn_mlp { } } final { use_bn: true use_ln: true } }", sequence),
              ElementsAre("tdm.multiwindow_din: windows_len is empty",
                          "tdm.multiwindow_din.attn_mlp: hidden_units is empty", "tdm.final: hidden_units is empty",
                          "tdm.final: use_bn and use_ln exclude each other", "model_config: losses is empty"));
  EXPECT_THAT(Faults("tdm { multiwindow_din { windows_len: [1, 0] attn_mlp { hidden_units: 4 } } "
                     "final { hidden_units: 4 } }" +
                         kLoss,
                     sequence),
              ElementsAre("tdm.multiwindow_din.windows_len: must be at least 1"));
}

TEST(ModelRules, RocketLaunching) {
  EXPECT_THAT(Faults("rocket_launching { booster_mlp { hidden_units: 4 } light_mlp { hidden_units: 2 } }" + kLoss),
              IsEmpty());
  EXPECT_THAT(Faults("rocket_launching { share_mlp { } booster_mlp { hidden_units: 0 } "
                     "light_mlp { hidden_units: 2 dropout_ratio: 1 } }"),
              ElementsAre("rocket_launching.share_mlp: hidden_units is empty",
                          "rocket_launching.booster_mlp.hidden_units: must be at least 1",
                          "rocket_launching.light_mlp.dropout_ratio: must be at least 0 and less than 1",
                          "model_config: losses is empty"));
}

// They read the group that is declared first, whatever its name.
TEST(ModelRules, TheFirstGroupIsNoSequence) {
  const std::string towers = "task_towers { tower_name: 'ctr' label_name: 'clk'" + kLoss + "} }";
  for (const std::string& model :
       {"mmoe { expert_mlp { hidden_units: 4 } " + towers, "dbmtl { " + towers,
        "rocket_launching { booster_mlp { hidden_units: 4 } light_mlp { hidden_units: 2 } }" + kLoss}) {
    EXPECT_THAT(
        Faults(model, "feature_groups { group_name: 'seq' group_type: SEQUENCE } "),
        ElementsAre("feature_groups[0].group_type: the model reads the first group, which has to be DEEP or WIDE"))
        << model;
  }
}

}  // namespace
}  // namespace anneal::config
