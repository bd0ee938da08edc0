// Where `anneal check` sees what is wrong with a generative ranker.
#include <gtest/gtest.h>

#include "worker/config/pipeline.h"

namespace anneal::config {
namespace {

/// A pipeline without a fault; lines are counted from 1, at `train_config`.
const std::string kPipeline =
    R"(train_config { num_steps: 1
sparse_optimizer { sgd_optimizer {} constant_learning_rate {} } dense_optimizer { sgd_optimizer {} constant_learning_rate {} } }
data_config { batch_size: 8 dataset_type: ParquetDataset fg_mode: FG_NONE label_fields: ["y", "z"] }
feature_configs { id_feature { feature_name: "user" num_buckets: 9 embedding_dim: 4 } }
feature_configs { id_feature { feature_name: "city" num_buckets: 9 embedding_dim: 4 } }
feature_configs { sequence_feature { sequence_name: "h" sequence_length: 5
features { id_feature { feature_name: "item" num_buckets: 9 embedding_dim: 6 } }
features { raw_feature { feature_name: "action" } }
features { raw_feature { feature_name: "watched" } }
features { raw_feature { feature_name: "time" } } } }
feature_configs { sequence_feature { sequence_name: "c" sequence_length: 5
features { id_feature { feature_name: "item" num_buckets: 9 embedding_dim: 6 } }
features { raw_feature { feature_name: "score" value_dim: 2 } }
features { raw_feature { feature_name: "time" } } } }
model_config {
feature_groups { group_name: "contextual" feature_names: ["user", "city"] group_type: DEEP }
feature_groups { group_name: "uih" feature_names: "h__item" group_type: JAGGED_SEQUENCE }
feature_groups { group_name: "uih_action" feature_names: "h__action" group_type: JAGGED_SEQUENCE }
feature_groups { group_name: "uih_watchtime" feature_names: "h__watched" group_type: JAGGED_SEQUENCE }
feature_groups { group_name: "uih_timestamp" feature_names: "h__time" group_type: JAGGED_SEQUENCE }
feature_groups { group_name: "candidate" feature_names: ["c__item", "c__score"] group_type: JAGGED_SEQUENCE }
feature_groups { group_name: "candidate_timestamp" feature_names: "c__time" group_type: JAGGED_SEQUENCE }
dlrm_hstu {
max_seq_len: 10
hstu { stu { embedding_dim: 8 num_heads: 2 hidden_dim: 4
attention_dim: 4 }
attn_num_layers: 3
positional_encoder { num_position_buckets: 9 use_time_encoding: true
num_time_buckets: 5 }
input_preprocessor { contextual_interleave_preprocessor {
action_encoder { simple_action_encoder { action_embedding_dim: 2 action_weights: [1, 2]
watchtime_to_action_thresholds: 3 watchtime_to_action_weights: 4 } }
action_mlp { simple_mlp { hidden_dim: 4 } }
content_encoder { pad_content_encoder {} }
content_mlp { parameterized_mlp { hidden_dim: 4 } } } }
output_postprocessor { timestamp_layernorm_postprocessor {
time_duration_period_units: 60 time_duration_units_per_period: 10 } }
}
fusion_mtl_tower { mlp { hidden_units: 4 }
task_configs { task_name: "a" label_name: "y" losses { binary_cross_entropy {} } }
task_configs { task_name: "b" label_name: "z" losses { l2_loss {} } } } } }
)";

std::string FaultsOf(const std::string& pipeline) {
  std::string all;
  for (const Fault& fault : Validate(ParsePipelineConfig(pipeline, "p"))) all += FaultLine("p", fault) + "\n";
  return all;
}

std::string With(std::string pipeline, const std::string& old, const std::string& now) {
  const size_t at = pipeline.find(old);
  EXPECT_NE(at, std::string::npos) << old;
  EXPECT_EQ(pipeline.find(old, at + 1), std::string::npos) << "twice: " << old;
  return at == std::string::npos ? pipeline : pipeline.replace(at, old.size(), now);
}

const std::string kStu = "model_config.dlrm_hstu.hstu.stu", kHstu = "model_config.dlrm_hstu.hstu",
                  kInput = kHstu + ".input_preprocessor.contextual_interleave_preprocessor",
                  kTasks = "model_config.dlrm_hstu.fusion_mtl_tower";

TEST(RankerRules, TakeWhatIsComplete) {
  EXPECT_EQ(FaultsOf(kPipeline), "");
  EXPECT_EQ(FaultsOf(With(kPipeline, "dlrm_hstu {", "ultra_hstu {")), "");
  // What nothing reads may be missing.
  std::string plain = With(kPipeline, "contextual_interleave_preprocessor", "contextual_preprocessor");
  plain = With(plain, "use_time_encoding: true", "");
  plain = With(
      plain, "timestamp_layernorm_postprocessor {\ntime_duration_period_units: 60 time_duration_units_per_period: 10 }",
      "l2norm_postprocessor {}");
  const size_t begin = plain.find("action_encoder"), end = plain.find("content_encoder");
  plain.erase(begin, end - begin);
  for (const std::string name : {"uih_action", "uih_watchtime", "uih_timestamp", "candidate_timestamp"}) {
    const size_t group = plain.find("feature_groups { group_name: \"" + name);
    plain.erase(group, plain.find('\n', group) - group);
  }
  EXPECT_EQ(FaultsOf(plain), "");
  // One token of all contextual features, which may then have any width.
  EXPECT_EQ(FaultsOf(With(With(kPipeline, "feature_name: \"city\" num_buckets: 9 embedding_dim: 4",
                               "feature_name: \"city\" num_buckets: 9 embedding_dim: 5"),
                          "max_seq_len: 10", "max_seq_len: 10 concat_contextual_features: true")),
            "");
}

TEST(RankerRules, NameFieldAndLine) {
  struct Case {
    std::string old, now, fault;
  };
  for (const Case& c :
       {Case{"max_seq_len: 10", "max_seq_len: 0", "p:24:1: model_config.dlrm_hstu.max_seq_len: must be at least 1"},
        Case{"max_seq_len: 10", "item_embedding_hidden_dim: 0\nmax_seq_len: 10",
             "p:24:1: model_config.dlrm_hstu.item_embedding_hidden_dim: must be at least 1"},
        Case{"ParquetDataset", "CsvDataset with_header: true",
             "p:3:29: data_config.dataset_type: CsvDataset: labels are lists, one value a candidate, which CSV files "
             "have not"},
        Case{"[\"y\", \"z\"] }", "[\"y\", \"z\"]\nsample_weight_fields: \"w\" }",
             "data_config.sample_weight_fields: rows have candidates, and these no sample weights, in this model"},
        Case{"group_name: \"contextual\"", "group_name: \"other\"",
             "p:23:1: model_config.dlrm_hstu: needs a feature group named 'contextual', DEEP"},
        Case{"group_name: \"candidate\"", "group_name: \"other\"",
             "p:23:1: model_config.dlrm_hstu: needs a feature group named 'candidate', JAGGED_SEQUENCE"},
        Case{"\"h__item\" group_type: JAGGED_SEQUENCE", "\"h__item\"\ngroup_type: SEQUENCE",
             "p:18:1: model_config.feature_groups[1].group_type: the group 'uih' of this model has to be "
             "JAGGED_SEQUENCE"},
        Case{"feature_names: \"h__item\"", "\nfeature_names: [\"h__item\", \"user\"]",
             "model_config.feature_groups[1].feature_names[1]: 'user' is no sequence, and the groups of histories and "
             "candidates have nothing else"},
        Case{"feature_name: \"city\" num_buckets: 9 embedding_dim: 4",
             "feature_name: \"city\" num_buckets: 9 embedding_dim: 5",
             "model_config.feature_groups[0].feature_names[1]: 'city' is 5 wide, 'user' 4: each is a token; "
             "concat_contextual_features makes one token of all"},
        Case{"feature_names: \"h__time\"", "feature_names: [\"h__time\", \"h__action\"]",
             "p:20:1: model_config.feature_groups[4]: group 'uih_timestamp' has to be one number an element"},
        Case{"\"c__time\" group_type", "\"c__score\" group_type",
             "model_config.feature_groups[6]: group 'candidate_timestamp' has to be one number an element"},
        Case{"group_name: \"uih_action\"", "group_name: \"other\"",
             kInput +
                 ".action_encoder.simple_action_encoder: needs a feature group named 'uih_action', JAGGED_SEQUENCE"},
        Case{"group_name: \"uih_watchtime\"", "group_name: \"other\"",
             kInput + ".action_encoder.simple_action_encoder: needs a feature group named 'uih_watchtime', "
                      "JAGGED_SEQUENCE"},
        Case{"attention_dim: 4", "attention_dim: 0", "p:26:1: " + kStu + ".attention_dim: must be at least 1"},
        Case{"attention_dim: 4", "attention_dim: 4\noutput_dropout_ratio: 1",
             "p:27:1: " + kStu + ".output_dropout_ratio: must be at least 0 and less than 1"},
        Case{"attention_dim: 4", "attention_dim: 4\nscaling_seqlen: 0",
             "p:27:1: " + kStu +
                 ".scaling_seqlen: attention is divided by it: must be at least 1, or negative for max_seq_len"},
        Case{"attn_num_layers: 3", "attn_num_layers: 0", "p:27:1: " + kHstu + ".attn_num_layers: must be at least 1"},
        Case{"attn_num_layers: 3", "attn_num_layers: 3 attn_truncation_tail_len: 4",
             "p:25:1: " + kHstu + ": attn_truncation_split_layer and attn_truncation_tail_len need each other"},
        Case{"attn_num_layers: 3", "attn_num_layers: 3\nattn_truncation_split_layer: 3 attn_truncation_tail_len: 4",
             "p:28:1: " + kHstu + ".attn_truncation_split_layer: must be less than attn_num_layers"},
        Case{"attn_num_layers: 3", "attn_num_layers: 3\nname: \"uih\"",
             "p:28:1: " + kHstu + ".name: channels are named in ultra_hstu; this model's history is the group 'uih'"},
        Case{"num_time_buckets: 5", "", kHstu + ".positional_encoder: use_time_encoding needs num_time_buckets"},
        Case{"num_time_buckets: 5", "num_time_buckets: 5\ntime_bucket_fn: \"exp\"",
             "p:30:1: " + kHstu + ".positional_encoder.time_bucket_fn: 'exp' is not sqrt or log"},
        Case{"num_time_buckets: 5", "num_time_buckets: 5\ntime_bucket_increments: 0",
             "p:30:1: " + kHstu + ".positional_encoder.time_bucket_increments: must be more than 0"},
        Case{"watchtime_to_action_weights: 4", "",
             kInput + ".action_encoder.simple_action_encoder.watchtime_to_action_thresholds: 1 values for 0 "
                      "watchtime_to_action_weights"},
        Case{"action_weights: [1, 2]\nwatchtime_to_action_thresholds: 3 watchtime_to_action_weights: 4", "",
             kInput + ".action_encoder.simple_action_encoder: action_weights is empty"},
        Case{"action_mlp { simple_mlp { hidden_dim: 4 } }", "", kInput + ": action_encoder needs action_mlp"},
        Case{"{ pad_content_encoder {} }", "{ }", kInput + ".content_encoder: names no encoder"},
        Case{"[\"c__item\", \"c__score\"]", "\"c__item\"",
             kInput +
                 ".content_encoder.pad_content_encoder: the group 'candidate' is 6 wide and 'uih' 6: candidates have "
                 "to be wider"},
        Case{"{ pad_content_encoder {} }",
             "{ mlp_content_encoder { uih_mlp { hidden_units: 4 } target_mlp { hidden_units: 5 } } }",
             kInput +
                 ".content_encoder.mlp_content_encoder: uih_mlp ends with 4, target_mlp with 5: they have to be as "
                 "wide"},
        Case{"{ parameterized_mlp { hidden_dim: 4 } }", "{ }", kInput + ".content_mlp: names no MLP"},
        Case{"{ parameterized_mlp { hidden_dim: 4 } }",
             "{ parameterized_mlp { hidden_dim: 4\ncontextual_dropout_ratio: 1 } }",
             "p:36:1: " + kInput +
                 ".content_mlp.parameterized_mlp.contextual_dropout_ratio: must be at least 0 and less than 1"},
        Case{"time_duration_period_units: 60", "",
             kHstu + ".output_postprocessor.timestamp_layernorm_postprocessor: 0 time_duration_period_units for 1 "
                     "time_duration_units_per_period"},
        Case{"mlp { hidden_units: 4 }\n", "\n", kTasks + ": needs an mlp"},
        Case{"task_name: \"b\"", "task_name: \"a\"", kTasks + ".task_configs[1].task_name: the name 'a' is used twice"},
        Case{"label_name: \"z\"", "\nlabel_name: \"zz\"",
             "p:42:1: " + kTasks + ".task_configs[1].label_name: 'zz' is not in data_config.label_fields"}}) {
    const std::string all = FaultsOf(With(kPipeline, c.old, c.now));
    EXPECT_NE(all.find(c.fault), std::string::npos) << c.now << "\nwanted " << c.fault << "\n" << all;
  }
}

TEST(RankerRules, SemiLocalAttentionIsNotForTriton) {
  const std::string semi_local = With(kPipeline, "attention_dim: 4", "attention_dim: 4 sla_k1: 2");
  EXPECT_EQ(FaultsOf(semi_local), "");
  EXPECT_EQ(FaultsOf(With(semi_local, "model_config {\n", "model_config { kernel: TRITON\n")),
            "p:25:8: " + kStu + ": sla_k1 and sla_k2 are not for kernel TRITON\n");
}

TEST(RankerRules, ChannelsHaveNamesOfTheirOwn) {
  const std::string ultra = With(kPipeline, "dlrm_hstu {", "ultra_hstu {");
  const size_t begin = ultra.find("hstu { stu"), end = ultra.find("fusion_mtl_tower");
  const std::string channel = ultra.substr(begin, end - begin), path = "model_config.ultra_hstu.hstu";
  const auto two = [&](const std::string& one, const std::string& other) {
    std::string both = ultra;
    return FaultsOf(both.replace(begin, end - begin,
                                 With(channel, "hstu { stu", "hstu { " + one + " stu") +
                                     With(channel, "hstu { stu", "hstu { " + other + " stu")));
  };
  EXPECT_EQ(two("", "name: 'uih'"), "p:25:1: " + path + "[0]: each of several channels needs a name\n");
  EXPECT_EQ(two("name: 'uih'", "name: 'uih'"), "p:39:8: " + path + "[1].name: the name 'uih' is used twice\n");
  const std::string other = two("name: 'uih'", "name: 'new'");
  for (const std::string group : {"new", "new_action", "new_watchtime", "new_timestamp"})
    EXPECT_NE(other.find("needs a feature group named '" + group + "', JAGGED_SEQUENCE"), std::string::npos) << other;
  std::string none = ultra;
  EXPECT_EQ(FaultsOf(none.erase(begin, end - begin)), "p:23:1: model_config.ultra_hstu: there are no hstu channels\n");
}

}  // namespace
}  // namespace anneal::config
