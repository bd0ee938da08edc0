// Where `anneal check` sees what is wrong with a model's parts.
#include <gtest/gtest.h>

#include "worker/config/pipeline.h"

namespace anneal::config {
namespace {

/// Faults of a pipeline with two sparse features, four wide, and a dense one of three columns. The model begins in line
/// 7.
std::string FaultsOf(const std::string& model) {
  const std::string pipeline = R"(train_config { num_steps: 1
  sparse_optimizer { sgd_optimizer {} constant_learning_rate {} } dense_optimizer { sgd_optimizer {} constant_learning_rate {} } }
data_config { batch_size: 8 dataset_type: ParquetDataset label_fields: ["y", "z"] }
feature_configs { id_feature { feature_name: "user" num_buckets: 9 embedding_dim: 4 } }
feature_configs { id_feature { feature_name: "item" num_buckets: 9 embedding_dim: 4 } }
feature_configs { raw_feature { feature_name: "age" value_dim: 3 } }
)";
  const auto loaded = ParsePipelineConfig(pipeline + "model_config {\n" + model + "\n}\n", "p");
  std::string all;
  for (const Fault& fault : Validate(loaded)) all += FaultLine("p", fault) + "\n";
  return all;
}

const std::string kLoss = " losses { binary_cross_entropy {} }";
const std::string kAll = R"(feature_groups { group_name: "all" feature_names: ["user", "age"] group_type: DEEP })";
const std::string kWide = R"(feature_groups { group_name: "wide" feature_names: ["user", "item"] group_type: WIDE })";
const std::string kDeep = R"(feature_groups { group_name: "deep" feature_names: ["user", "age"] group_type: DEEP })";
const std::string kDense = R"(feature_groups { group_name: "dense" feature_names: "age" group_type: DEEP })";
const std::string kSparse =
    R"(feature_groups { group_name: "sparse" feature_names: ["user", "item"] group_type: DEEP })";
const std::string kMlp = "{ hidden_units: [8, 4] }";
const std::string kTowers =
    R"( task_towers { tower_name: "a" label_name: "y" losses { binary_cross_entropy {} } }
        task_towers { tower_name: "b" label_name: "z" losses { binary_cross_entropy {} } })";

TEST(ModelPlaces, TakeWhatIsComplete) {
  for (const std::string& model :
       {kWide + kDeep + "wide_and_deep { deep " + kMlp + "}" + kLoss,
        kAll + "dcn_v1 { cross {} deep " + kMlp + " final " + kMlp + "}" + kLoss,
        kAll + "dcn_v2 { cross {} final " + kMlp + "}" + kLoss,
        kDense + kSparse + "dlrm { dense_mlp " + kMlp + " final " + kMlp + "}" + kLoss,
        kSparse + "wukong { wukong_layers { lcb_feature_num: 2 fmb_feature_num: 2 feature_num_mlp " + kMlp +
            "} final " + kMlp + "}" + kLoss,
        kWide + kDeep + "xdeepfm { cin { cin_layer_size: 3 } deep " + kMlp + " final " + kMlp + "}" + kLoss,
        kAll + "ple { extraction_networks { network_name: 'n' expert_num_per_task: 1 task_expert_net " + kMlp + "}" +
            kTowers + "}",
        kAll + "variational_dropout {} pepnet {" + kTowers + "}",
        kAll + "use_pareto_loss_weight: true pepnet { domain_input_name: 'z' task_domain_num: 2" + kTowers + "}",
        kAll + "dc2vr { task_towers { tower_name: 'a' label_name: 'y' low_rank_dim: 1 losses { binary_cross_entropy {} "
               "} } "
               "task_towers { tower_name: 'b' label_name: 'z' intervention_tower_names: 'a' low_rank_dim: 2 losses { "
               "binary_cross_entropy {} } } }"}) {
    EXPECT_EQ(FaultsOf(model), "") << model;
  }
}

TEST(ModelPlaces, NameFieldAndLine) {
  struct Case {
    std::string model, fault;
  };
  for (const Case& c :
       {Case{kWide + "\nwide_and_deep { deep " + kMlp + "}" + kLoss,
             "p:9:1: model_config.wide_and_deep: needs a feature group named 'deep'"},
        Case{kAll + "\ndcn_v1 { cross { cross_num: 0 }\ndeep " + kMlp + "}" + kLoss,
             "p:9:1: model_config.dcn_v1.final: hidden_units is empty"},
        Case{kAll + "\ndcn_v1 { cross {\ncross_num: 0 } deep " + kMlp + " final " + kMlp + "}" + kLoss,
             "p:10:1: model_config.dcn_v1.cross.cross_num: must be at least 1"},
        Case{kDense + kSparse + "dlrm { dense_mlp {\nhidden_units: [8, 6] } final " + kMlp + "}" + kLoss,
             "p:9:1: model_config.dlrm.dense_mlp.hidden_units[1]: is 6, but the features of group 'sparse' are 4 wide"},
        Case{kDense + kSparse + "\ndlrm { final " + kMlp + "}" + kLoss,
             "p:9:1: model_config.dlrm: the feature group 'dense' needs dense_mlp"},
        Case{kDense + kDeep + "\ndlrm { dense_mlp " + kMlp + " final " + kMlp + "}" + kLoss,
             "model_config.dlrm: needs a feature group named 'sparse', or one group alone"},
        Case{kAll + "wukong { final " + kMlp + "}" + kLoss,
             "model_config.feature_groups[0].feature_names[1]: 'age' is 3 wide, 'user' 4: this model needs one width"},
        Case{kSparse + "wukong { wukong_layers {\nlcb_feature_num: 0 fmb_feature_num: 2 feature_num_mlp " + kMlp +
                 "} final " + kMlp + "}" + kLoss,
             "model_config.wukong.wukong_layers[0].lcb_feature_num: must be at least 1"},
        Case{kDeep +
                 "feature_groups { group_name: 'wide' feature_names: 'user'\ngroup_type: DEEP } xdeepfm { cin {"
                 " cin_layer_size: 3 } deep " +
                 kMlp + " final " + kMlp + "}" + kLoss,
             "model_config.feature_groups[1].group_type: the group 'wide' of this model has to be WIDE"},
        Case{kWide + kDeep + "xdeepfm { cin {} deep " + kMlp + " final " + kMlp + "}" + kLoss,
             "model_config.xdeepfm.cin: cin_layer_size is empty"},
        Case{kAll +
                 "ple { extraction_networks { network_name: 'n' expert_num_per_task: 1 share_num: 1 task_expert_net " +
                 kMlp + "\nshare_expert_net { hidden_units: 5 } }" + kTowers + "}",
             "model_config.ple.extraction_networks[0].share_expert_net.hidden_units[0]: is 5, but the last of "
             "task_expert_net is 4: gates mix both"},
        Case{kAll + "ple {" + kTowers + "}", "model_config.ple: there are no extraction_networks"},
        Case{kAll + "pepnet { task_towers { tower_name: 'a'\nlabel_name: 'x' losses { binary_cross_entropy {} } } }",
             "p:9:1: model_config.pepnet.task_towers[0].label_name: 'x' is not in data_config.label_fields"},
        Case{kAll + "pepnet {\ndomain_input_name: 'x'" + kTowers + "}",
             "p:9:1: model_config.pepnet.domain_input_name: 'x' is not in data_config.label_fields"},
        Case{kAll + "pepnet {\ntask_domain_num: 2" + kTowers + "}",
             "p:9:1: model_config.pepnet.task_domain_num: needs domain_input_name"},
        Case{kAll + "pepnet { domain_input_name: 'z' task_domain_num: 0" + kTowers + "}",
             "model_config.pepnet.task_domain_num: must be at least 1"},
        Case{kAll + "pepnet { domain_input_name: 'z' task_domain_num: 2 task_towers { tower_name: 'a' label_name: 'y'\n"
                    "num_class: 2 losses { softmax_cross_entropy {} } } }",
             "p:9:1: model_config.pepnet.task_towers[0].num_class: must be 1 where a task has a tower per domain"},
        Case{kAll + "dc2vr { task_towers { tower_name: 'a.b' label_name: 'y'\nintervention_tower_names: 'a'\n"
                    "low_rank_dim: 0\ndropout_ratio: 1 losses { binary_cross_entropy {} } } }",
             "p:9:1: model_config.dc2vr.task_towers[0].intervention_tower_names[0]: no tower 'a' stands before this "
             "one\n"
             "p:10:1: model_config.dc2vr.task_towers[0].low_rank_dim: must be at least 1\n"
             "p:11:1: model_config.dc2vr.task_towers[0].dropout_ratio: must be at least 0 and less than 1"},
        Case{
            kAll + "dc2vr { bottom_mlp { hidden_units: [16, 8] } task_towers { tower_name: 'a' label_name: 'y' "
                   "low_rank_dim: 9 mlp { hidden_units: 4 } losses { binary_cross_entropy {} } }\n"
                   "task_towers { tower_name: 'b' label_name: 'z' intervention_tower_names: 'a'\nlow_rank_dim: 4 "
                   "losses { binary_cross_entropy {} } } }",
            "p:10:1: model_config.dc2vr.task_towers[1].low_rank_dim: must be less than the tower's vector, 8 wide, and "
            "those of intervention_tower_names, together 4"},
        Case{
            kAll + "\nuse_pareto_loss_weight: true\nvariational_dropout {}\npepnet {" + kTowers + "}",
            "p:9:1: model_config.use_pareto_loss_weight: and variational_dropout, whose losses have no weight, exclude "
            "each other"},
        Case{kAll + "\nuse_pareto_loss_weight: true\npepnet { task_towers { tower_name: 'a' label_name: 'y'\n"
                    "pareto_min_loss_weight: -0.1 losses { binary_cross_entropy {} } } task_towers { tower_name: 'b' "
                    "label_name: 'z' pareto_min_loss_weight: 0.6 losses { binary_cross_entropy {} } losses { "
                    "binary_focal_loss {} } } }",
             "p:9:1: model_config.use_pareto_loss_weight: the pareto_min_loss_weight of all losses must add up to less "
             "than 1\np:11:1: model_config.pepnet.task_towers[0].pareto_min_loss_weight: must be at least 0 and less "
             "than 1"},
        Case{kAll + "variational_dropout {\nregularization_lambda: -1 } pepnet {" + kTowers + "}",
             "p:9:1: model_config.variational_dropout.regularization_lambda: must not be negative"},
        Case{kAll + "\nvariational_dropout {} sid_rqvae { codebook: 4 }",
             "p:9:1: model_config.variational_dropout: sid_rqvae does not apply it"},
        Case{kAll + "\nuse_pareto_loss_weight: true sid_rqvae { codebook: 4 }",
             "p:9:1: model_config.use_pareto_loss_weight: needs a model with task_towers"},
        Case{kAll + "feature_groups { group_name: 'uia' feature_names: 'user' group_type: DEEP } pepnet {" + kTowers +
                 "}",
             "model_config.pepnet: ppnet_hidden_units is empty"},
        Case{kAll + "pepnet { ppnet_hidden_units: [4, 4, 4]\nppnet_dropout_ratio: [0.1, 0.1]" + kTowers + "}",
             "model_config.pepnet.ppnet_dropout_ratio: 2 values for 3 ppnet_hidden_units"}}) {
    const std::string all = FaultsOf(c.model);
    EXPECT_NE(all.find(c.fault), std::string::npos) << c.fault << "\n" << all;
  }
}

}  // namespace
}  // namespace anneal::config
