#include "worker/config/ranker_rules.h"

#include <algorithm>
#include <set>

#include "worker/config/head_rules.h"
#include "worker/config/source_map.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

class RankerRules {
 public:
  RankerRules(const EasyRecConfig& config, std::string path, const Report& fail, const KnownFeatures& features)
      : data_(config.data_config()),
        model_(config.model_config()),
        path_(std::move(path)),
        fail_(fail),
        features_(features) {}

  /// What both models have.
  template <typename Model>
  void Run(const Model& model) {
    if (data_.dataset_type() == CsvDataset)
      fail_("data_config.dataset_type",
            "CsvDataset: labels are lists, one value a candidate, which CSV files have not");
    if (!data_.sample_weight_fields().empty())
      fail_("data_config.sample_weight_fields", "rows have candidates, and these no sample weights, in this model");
    AtLeastOne(model.max_seq_len(), path_ + ".max_seq_len");
    AtLeastOne(model.item_embedding_hidden_dim(), path_ + ".item_embedding_hidden_dim");
    NeedsGroup("contextual", DEEP, path_);
    if (const auto* group = Group("contextual", DEEP)) Contextual(*group, model.concat_contextual_features());
    NeedsGroup("candidate", JAGGED_SEQUENCE, path_);
    Sequences();
    Tasks(model.fusion_mtl_tower(), path_ + ".fusion_mtl_tower");
  }

  void Channel(const HSTU& channel, const std::string& at) {
    const std::string history = channel.name().empty() ? "uih" : channel.name();
    NeedsGroup(history, JAGGED_SEQUENCE, at);
    AtLeastOne(channel.attn_num_layers(), at + ".attn_num_layers");
    Ratio(channel.input_dropout_ratio(), at + ".input_dropout_ratio");
    Layer(channel.stu(), at + ".stu");
    const uint32_t split = channel.attn_truncation_split_layer(), tail = channel.attn_truncation_tail_len();
    if ((split > 0) != (tail > 0))
      fail_(at, "attn_truncation_split_layer and attn_truncation_tail_len need each other");
    if (split > 0 && split >= channel.attn_num_layers())
      fail_(at + ".attn_truncation_split_layer", "must be less than attn_num_layers");
    const bool times = Positions(channel.positional_encoder(), at + ".positional_encoder");
    Input(channel.input_preprocessor(), history, at + ".input_preprocessor");
    if (Output(channel.output_postprocessor(), at + ".output_postprocessor") || times) {
      OneColumn(history + "_timestamp", at);
      OneColumn("candidate_timestamp", at);
    }
  }

 private:
  const FeatureGroupConfig* Group(const std::string& name, FeatureGroupType type) const {
    for (const auto& group : model_.feature_groups()) {
      if (group.group_name() == name && group.group_type() == type) return &group;
    }
    return nullptr;
  }

  /// Where a group is declared, or which path lacks it.
  std::string GroupPath(const std::string& name) const {
    for (int g = 0; g < model_.feature_groups_size(); ++g) {
      if (model_.feature_groups(g).group_name() == name) return Item("model_config.feature_groups", g);
    }
    return "";
  }

  void NeedsGroup(const std::string& name, FeatureGroupType type, const std::string& path) {
    if (Group(name, type)) return;
    const std::string declared = GroupPath(name);
    if (declared.empty()) {
      fail_(path, "needs a feature group named '" + name + "', " + FeatureGroupType_Name(type));
    } else {
      fail_(declared + ".group_type",
            "the group '" + name + "' of this model has to be " + FeatureGroupType_Name(type));
    }
  }

  void Sequences() {
    for (int g = 0; g < model_.feature_groups_size(); ++g) {
      const FeatureGroupConfig& group = model_.feature_groups(g);
      for (int i = 0; i < group.feature_names_size() && group.group_type() == JAGGED_SEQUENCE; ++i) {
        if (!features_.single(group.feature_names(i))) continue;
        fail_(Item(Item("model_config.feature_groups", g) + ".feature_names", i),
              "'" + group.feature_names(i) +
                  "' is no sequence, and the groups of histories and candidates have nothing else");
      }
    }
  }

  /// A group of one number an element.
  void OneColumn(const std::string& name, const std::string& path) {
    NeedsGroup(name, JAGGED_SEQUENCE, path);
    const FeatureGroupConfig* group = Group(name, JAGGED_SEQUENCE);
    if (!group) return;
    const int64_t width = WidthOf(*group);
    if (group->feature_names_size() > 1 || width > 1)
      fail_(GroupPath(name), "group '" + name + "' has to be one number an element");
  }

  /// Columns of a group; 0 where they are not known.
  int64_t WidthOf(const FeatureGroupConfig& group) const {
    int64_t width = 0;
    for (const std::string& feature : group.feature_names()) {
      const int64_t own = features_.width(feature);
      if (own == 0) return 0;
      width += own;
    }
    return width;
  }

  void Contextual(const FeatureGroupConfig& group, bool one_token) {
    if (one_token || group.sequence_encoders_size() > 0) return;
    for (int i = 1; i < group.feature_names_size(); ++i) {
      const int64_t first = features_.width(group.feature_names(0)), own = features_.width(group.feature_names(i));
      if (first == 0 || own == 0 || first == own) continue;
      fail_(Item(GroupPath(group.group_name()) + ".feature_names", i),
            "'" + group.feature_names(i) + "' is " + std::to_string(own) + " wide, '" + group.feature_names(0) + "' " +
                std::to_string(first) + ": each is a token; concat_contextual_features makes one token of all");
      return;
    }
  }

  void Tasks(const FusionMTLTower& tower, const std::string& path) {
    if (tower.has_mlp()) {
      CheckMlp(tower.mlp(), path + ".mlp", fail_);
    } else {
      fail_(path, "needs an mlp");
    }
    if (tower.task_configs_size() == 0) fail_(path, "there are no task_configs");
    std::set<std::string> names;
    for (int t = 0; t < tower.task_configs_size(); ++t) {
      const auto& task = tower.task_configs(t);
      const std::string at = Item(path + ".task_configs", t);
      if (!names.insert(task.task_name()).second)
        fail_(at + ".task_name", "the name '" + task.task_name() + "' is used twice");
      const auto& labels = data_.label_fields();
      if (std::find(labels.begin(), labels.end(), task.label_name()) == labels.end()) {
        fail_(at + ".label_name", "'" + task.label_name() + "' is not in data_config.label_fields" +
                                      DidYouMean(task.label_name(), {labels.begin(), labels.end()}));
      }
      CheckHead({task.losses(), task.metrics(), task.train_metrics(), task.num_class(), at}, fail_,
                features_.sparse_fault);
    }
  }

  void Layer(const STU& stu, const std::string& at) {
    AtLeastOne(stu.embedding_dim(), at + ".embedding_dim");
    AtLeastOne(stu.num_heads(), at + ".num_heads");
    AtLeastOne(stu.hidden_dim(), at + ".hidden_dim");
    AtLeastOne(stu.attention_dim(), at + ".attention_dim");
    Ratio(stu.output_dropout_ratio(), at + ".output_dropout_ratio");
    if (stu.scaling_seqlen() == 0)
      fail_(at + ".scaling_seqlen", "attention is divided by it: must be at least 1, or negative for max_seq_len");
    if (model_.kernel() == TRITON && (stu.sla_k1() > 0 || stu.sla_k2() > 0))
      fail_(at, "sla_k1 and sla_k2 are not for kernel TRITON");
  }

  /// Whether it reads times.
  bool Positions(const GRPositionalEncoder& encoder, const std::string& at) {
    AtLeastOne(encoder.num_position_buckets(), at + ".num_position_buckets");
    if (!encoder.use_time_encoding()) return false;
    if (encoder.num_time_buckets() == 0) fail_(at, "use_time_encoding needs num_time_buckets");
    if (encoder.time_bucket_fn() != "sqrt" && encoder.time_bucket_fn() != "log")
      fail_(at + ".time_bucket_fn", "'" + encoder.time_bucket_fn() + "' is not sqrt or log");
    if (!(encoder.time_bucket_increments() > 0)) fail_(at + ".time_bucket_increments", "must be more than 0");
    return true;
  }

  void Input(const GRInputPreprocessor& input, const std::string& history, const std::string& at) {
    switch (input.input_preprocessor_case()) {
      case GRInputPreprocessor::kContextualPreprocessor:
        return Tokens(input.contextual_preprocessor(), history, /*needs_actions=*/false,
                      at + ".contextual_preprocessor");
      case GRInputPreprocessor::kContextualInterleavePreprocessor:
        return Tokens(input.contextual_interleave_preprocessor(), history, /*needs_actions=*/true,
                      at + ".contextual_interleave_preprocessor");
      case GRInputPreprocessor::INPUT_PREPROCESSOR_NOT_SET:
        return fail_(at, "names no preprocessor");
      default:
        return;  // refused by CheckSupported
    }
  }

  template <typename Preprocessor>
  void Tokens(const Preprocessor& config, const std::string& history, bool needs_actions, const std::string& at) {
    if (config.has_action_encoder()) {
      Actions(config.action_encoder().simple_action_encoder(), history, at + ".action_encoder.simple_action_encoder");
      if (config.has_action_mlp()) {
        TokenMlp(config.action_mlp(), at + ".action_mlp");
      } else {
        fail_(at, "action_encoder needs action_mlp");
      }
    } else if (needs_actions) {
      fail_(at, "needs an action_encoder: its vectors are tokens");
    }
    Content(config.content_encoder(), history, at + ".content_encoder");
    TokenMlp(config.content_mlp(), at + ".content_mlp");
  }

  void Actions(const GRSimpleActionEncoder& encoder, const std::string& history, const std::string& at) {
    AtLeastOne(encoder.action_embedding_dim(), at + ".action_embedding_dim");
    if (encoder.action_weights_size() + encoder.watchtime_to_action_weights_size() == 0)
      fail_(at, "action_weights is empty");
    if (encoder.watchtime_to_action_thresholds_size() != encoder.watchtime_to_action_weights_size()) {
      fail_(at + ".watchtime_to_action_thresholds",
            std::to_string(encoder.watchtime_to_action_thresholds_size()) + " values for " +
                std::to_string(encoder.watchtime_to_action_weights_size()) + " watchtime_to_action_weights");
    }
    if (!(encoder.embedding_init_std() >= 0)) fail_(at + ".embedding_init_std", "must not be negative");
    OneColumn(history + "_action", at);
    if (encoder.watchtime_to_action_thresholds_size() > 0) OneColumn(history + "_watchtime", at);
  }

  void TokenMlp(const GRContextualizedMLP& mlp, const std::string& at) {
    if (mlp.has_simple_mlp()) {
      AtLeastOne(mlp.simple_mlp().hidden_dim(), at + ".simple_mlp.hidden_dim");
    } else if (mlp.has_parameterized_mlp()) {
      AtLeastOne(mlp.parameterized_mlp().hidden_dim(), at + ".parameterized_mlp.hidden_dim");
      Ratio(mlp.parameterized_mlp().contextual_dropout_ratio(), at + ".parameterized_mlp.contextual_dropout_ratio");
    } else {
      fail_(at, "names no MLP");
    }
  }

  void Content(const GRContentEncoder& encoder, const std::string& history, const std::string& at) {
    const auto width = [&](const std::string& name) {
      const FeatureGroupConfig* group = Group(name, JAGGED_SEQUENCE);
      return group ? WidthOf(*group) : 0;
    };
    const int64_t of_history = width(history), of_candidates = width("candidate");
    const auto too_narrow = [&](const std::string& field, const char* relation) {
      fail_(at + "." + field, "the group 'candidate' is " + std::to_string(of_candidates) + " wide and '" + history +
                                  "' " + std::to_string(of_history) + ": candidates have to be " + relation);
    };
    const bool known = of_history > 0 && of_candidates > 0;
    switch (encoder.content_encoder_case()) {
      case GRContentEncoder::kSliceContentEncoder:
        if (known && of_candidates < of_history) too_narrow("slice_content_encoder", "at least as wide");
        return;
      case GRContentEncoder::kPadContentEncoder:
        if (known && of_candidates <= of_history) too_narrow("pad_content_encoder", "wider");
        return;
      case GRContentEncoder::kMlpContentEncoder: {
        const MLP &own = encoder.mlp_content_encoder().uih_mlp(), &other = encoder.mlp_content_encoder().target_mlp();
        CheckMlp(own, at + ".mlp_content_encoder.uih_mlp", fail_);
        CheckMlp(other, at + ".mlp_content_encoder.target_mlp", fail_);
        const auto last = [](const MLP& mlp) { return mlp.hidden_units().empty() ? 0 : *mlp.hidden_units().rbegin(); };
        if (last(own) != last(other))
          fail_(at + ".mlp_content_encoder", "uih_mlp ends with " + std::to_string(last(own)) + ", target_mlp with " +
                                                 std::to_string(last(other)) + ": they have to be as wide");
        return;
      }
      default:
        fail_(at, "names no encoder");
    }
  }

  /// Whether it reads times.
  bool Output(const GROutputPostprocessor& output, const std::string& at) {
    if (output.output_postprocessor_case() == GROutputPostprocessor::OUTPUT_POSTPROCESSOR_NOT_SET)
      fail_(at, "names no postprocessor");
    if (!output.has_timestamp_layernorm_postprocessor()) return false;
    const auto& times = output.timestamp_layernorm_postprocessor();
    const std::string path = at + ".timestamp_layernorm_postprocessor";
    if (times.time_duration_period_units_size() != times.time_duration_units_per_period_size()) {
      fail_(path, std::to_string(times.time_duration_period_units_size()) + " time_duration_period_units for " +
                      std::to_string(times.time_duration_units_per_period_size()) + " time_duration_units_per_period");
    }
    for (const uint32_t unit : times.time_duration_period_units())
      AtLeastOne(unit, path + ".time_duration_period_units");
    for (const uint32_t period : times.time_duration_units_per_period())
      AtLeastOne(period, path + ".time_duration_units_per_period");
    return true;
  }

  void AtLeastOne(int64_t value, const std::string& path) {
    if (value == 0) fail_(path, "must be at least 1");
  }
  void Ratio(float ratio, const std::string& path) {
    if (!(ratio >= 0 && ratio < 1)) fail_(path, "must be at least 0 and less than 1");
  }

  const DataConfig& data_;
  const ModelConfig& model_;
  const std::string path_;
  const Report& fail_;
  const KnownFeatures& features_;
};

}  // namespace

void CheckRanker(const EasyRecConfig& config, const DlrmHSTU& model, const Report& fail,
                 const KnownFeatures& features) {
  const std::string path = "model_config.dlrm_hstu";
  RankerRules rules(config, path, fail, features);
  rules.Run(model);
  if (!model.hstu().name().empty())
    fail(path + ".hstu.name", "channels are named in ultra_hstu; this model's history is the group 'uih'");
  rules.Channel(model.hstu(), path + ".hstu");
}

void CheckRanker(const EasyRecConfig& config, const UltraHSTU& model, const Report& fail,
                 const KnownFeatures& features) {
  const std::string path = "model_config.ultra_hstu";
  RankerRules rules(config, path, fail, features);
  rules.Run(model);
  if (model.hstu_size() == 0) fail(path, "there are no hstu channels");
  std::set<std::string> names;
  for (int i = 0; i < model.hstu_size(); ++i) {
    const std::string at = Item(path + ".hstu", i), &name = model.hstu(i).name();
    if (name.empty() && model.hstu_size() > 1) fail(at, "each of several channels needs a name");
    if (!name.empty() && !names.insert(name).second) fail(at + ".name", "the name '" + name + "' is used twice");
    rules.Channel(model.hstu(i), at);
  }
}

}  // namespace anneal::config
