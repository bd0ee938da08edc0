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

const std::string kMatched = " losses { softmax_cross_entropy { } } metrics { recall_at_k { top_k: 5 } } ";
const std::string kTwoGroups =
    "feature_groups { group_name: 'user' group_type: DEEP } feature_groups { group_name: 'item' group_type: DEEP } "
    "feature_groups { group_name: 'wide' group_type: WIDE } feature_groups { group_name: 'seq' group_type: SEQUENCE } ";

TEST(ModelRules, Dssm) {
  const std::string towers =
      "user_tower { input: 'user' mlp { hidden_units: 4 } } item_tower { input: 'item' mlp { hidden_units: [5, 4] } } ";
  for (const std::string model : {"dssm", "dssm_v2"}) {
    EXPECT_THAT(Faults(model + " { " + towers + "in_batch_negative: true }" + kMatched, kTwoGroups), IsEmpty());
  }
  EXPECT_THAT(
      Faults("dssm { user_tower { input: 'seq' mlp { hidden_units: 4 } } item_tower { input: 'wide' } "
             "similarity: EUCLID temperature: 0 output_dim: -1 } losses { binary_cross_entropy { } } "
             "metrics { auc { } } train_metrics { recall_at_k { top_k: 0 } decay_step: 0 }",
             kTwoGroups),
      ElementsAre("dssm.user_tower.input: feature group 'seq' is SEQUENCE, not DEEP or WIDE",
                  "dssm.item_tower.input: feature group 'wide' is WIDE, not DEEP",
                  "dssm.item_tower.mlp: hidden_units is empty", "dssm.output_dim: must not be negative",
                  "dssm.similarity: EUCLID is not COSINE or INNER_PRODUCT", "dssm.temperature: must be more than 0",
                  "dssm.in_batch_negative: is false, and data_config has no negative sampler: there are no "
                  "negatives",
                  "losses: a match model has one loss, softmax_cross_entropy",
                  "metrics[0]: a match model has no metric but recall_at_k",
                  "train_metrics[0].recall_at_k.top_k: must be at least 1",
                  "train_metrics[0].decay_step: must be at least 1"));
  EXPECT_THAT(Faults("dssm { user_tower { input: 'user' mlp { hidden_units: 3 } } item_tower { input: 'user' mlp { "
                     "hidden_units: 4 } } output_dim: 0 in_batch_negative: true } losses { softmax_cross_entropy { } } "
                     "losses { softmax_cross_entropy { } }",
                     kTwoGroups),
              ElementsAre("dssm.item_tower.input: group 'user' is the user tower's",
                          "dssm.output_dim: is 0, and the towers' vectors have 3 and 4 numbers: they are compared",
                          "losses: a match model has one loss, softmax_cross_entropy"));
}

TEST(ModelRules, Dat) {
  const std::string groups = kTwoGroups +
                             "feature_groups { group_name: 'more' group_type: DEEP } "
                             "feature_groups { group_name: 'most' group_type: DEEP } ";
  const std::string item =
      "item_tower { input: 'item' augment_input: 'most' mlp { hidden_units: 4 } } "
      "in_batch_negative: true }";
  EXPECT_THAT(
      Faults("dat { user_tower { input: 'user' augment_input: 'more' mlp { hidden_units: 4 } } " + item + kMatched,
             groups),
      IsEmpty());
  EXPECT_THAT(Faults("dat { user_tower { input: 'item' augment_input: 'seq' mlp { } } " + item + kMatched, groups),
              ElementsAre("dat.user_tower.mlp: hidden_units is empty",
                          "dat.user_tower.augment_input: feature group 'seq' is SEQUENCE, not DEEP or WIDE",
                          "dat: group 'item' is the input of two"));
}

TEST(ModelRules, Mind) {
  const std::string item = " item_tower { input: 'item' mlp { hidden_units: 4 } } in_batch_negative: true }";
  EXPECT_THAT(Faults("mind { user_tower { input: 'user' history_input: 'seq' user_mlp { hidden_units: [6, 5] } "
                     "concat_mlp { hidden_units: 4 } capsule_config { max_seq_len: 9 high_dim: 4 } }" +
                         item + kMatched,
                     kTwoGroups),
              IsEmpty());
  EXPECT_THAT(
      Faults("mind { user_tower { input: 'user' history_input: 'item' user_mlp { hidden_units: 6 } hist_seq_mlp { } "
             "concat_mlp { hidden_units: 3 } capsule_config { max_k: 0 max_seq_len: 0 high_dim: 0 num_iters: 0 "
             "routing_logits_scale: 0 squash_pow: 0 routing_init_method: 'ones' routing_logits_stddev: -1 } }" +
                 item + kMatched,
             kTwoGroups),
      ElementsAre("mind.user_tower.history_input: feature group 'item' is DEEP, not SEQUENCE",
                  "mind.user_tower.user_mlp.hidden_units: needs at least 2 layers",
                  "mind.user_tower.hist_seq_mlp: hidden_units is empty",
                  "mind.user_tower.capsule_config.max_k: must be at least 1",
                  "mind.user_tower.capsule_config.max_seq_len: must be at least 1",
                  "mind.user_tower.capsule_config.high_dim: must be at least 1",
                  "mind.user_tower.capsule_config.num_iters: must be at least 1",
                  "mind.user_tower.capsule_config.routing_init_method: 'ones' is not normal or zeros",
                  "mind.user_tower.capsule_config.routing_logits_stddev: must not be negative",
                  "mind.user_tower.capsule_config.routing_logits_scale: must be more than 0",
                  "mind.user_tower.capsule_config.squash_pow: must be more than 0",
                  "mind.output_dim: is 0, and the towers' vectors have 3 and 4 numbers: they are compared"));
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

TEST(ModelRules, SidRqvae) {
  const std::string losses = " losses { recon_loss {} } losses { commitment_loss {} }";
  EXPECT_THAT(Faults("sid_rqvae { codebook: [8, 8] }" + losses), IsEmpty());
  EXPECT_THAT(
      Faults("sid_rqvae { embed_dim: 0 hidden_dims: [4, 0] forward_mode: 'x' distance_type: 'y' "
             "sinkhorn_config { epsilon: 0 } } losses { recon_loss { recon_type: 'z' } } "
             "losses { commitment_loss { commitment_type: 'l3' latent_weight: 1 } } losses { recon_loss {} } "
             "losses { l2_loss {} } metrics { auc {} } train_metrics { auc {} }"),
      ElementsAre("sid_rqvae.embed_dim: must be at least 1", "sid_rqvae.hidden_dims: must be at least 1",
                  "sid_rqvae: codebook is empty", "sid_rqvae.forward_mode: 'x' is not one of ste, gumbel_softmax",
                  "sid_rqvae.distance_type: 'y' is not one of l2, cosine",
                  "sid_rqvae.sinkhorn_config.epsilon: must be more than 0",
                  "losses[0].recon_loss.recon_type: 'z' is not one of l2, l1, cos",
                  "losses[1].commitment_loss.commitment_type: 'l3' is not one of l2, l1, cos",
                  "losses[1].commitment_loss.latent_weight: needs 2 numbers", "losses[2]: is there twice",
                  "losses[3]: this model has recon_loss and commitment_loss only",
                  "metrics: this model's are fixed: mse, rel_loss, unique_sid_ratio",
                  "train_metrics: this model has none"));
  EXPECT_THAT(Faults("sid_rqvae { codebook: 8 rotation_trick: true forward_mode: 'gumbel_softmax' }" + losses),
              ElementsAre("sid_rqvae.rotation_trick: is for forward_mode ste"));
  std::vector<std::string> refused;
  for (const Fault& fault : Validate(ParsePipelineConfig(
           "model_config { sid_rqvae { codebook: 8 kmeans_init: true candidate_output_config { enabled: true } "
           "contrastive_config { pair_feature_group: 'a' pair_flag_feature_group: 'b' } } " +
               losses + " losses { contrastive_loss {} } }",
           "p"))) {
    if (fault.message == "not supported yet") refused.push_back(fault.path);
  }
  EXPECT_THAT(refused, testing::UnorderedElementsAre("model_config.sid_rqvae.kmeans_init",
                                                     "model_config.sid_rqvae.contrastive_config",
                                                     "model_config.sid_rqvae.candidate_output_config.enabled",
                                                     "model_config.losses[2].contrastive_loss"));
  EXPECT_THAT(Faults("rocket_launching { booster_mlp { hidden_units: 4 } light_mlp { hidden_units: 2 } }" + losses),
              ElementsAre("losses[0]: is for models of semantic ids, not for this one",
                          "losses[1]: is for models of semantic ids, not for this one"));
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
