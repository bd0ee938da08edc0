#include "worker/config/model_rules.h"

#include <algorithm>
#include <set>

#include "worker/config/head_rules.h"
#include "worker/config/source_map.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

class ModelRules {
 public:
  ModelRules(const EasyRecConfig& config, const Report& fail,
             const std::function<std::string(const std::string&)>& sparse_fault)
      : data_(config.data_config()), model_(config.model_config()), fail_(fail), sparse_fault_(sparse_fault) {}

  void Run() {
    switch (model_.model_case()) {
      case ModelConfig::MODEL_NOT_SET:
        return fail_("model_config", "no model is set");
      case ModelConfig::kDeepfm:
        for (const char* name : {"wide", "deep"}) {
          if (!FindGroup(name)) fail_("model_config.deepfm", std::string("needs a feature group named '") + name + "'");
        }
        Mlp(model_.deepfm().deep(), "model_config.deepfm.deep");
        if (model_.deepfm().has_final()) Mlp(model_.deepfm().final(), "model_config.deepfm.final");
        return Head(model_, "model_config");
      case ModelConfig::kMultiTower:
        Towers(model_.multi_tower(), "model_config.multi_tower");
        return Head(model_, "model_config");
      case ModelConfig::kMultiTowerDin:
        Towers(model_.multi_tower_din(), "model_config.multi_tower_din");
        DinTowers(model_.multi_tower_din());
        return Head(model_, "model_config");
      case ModelConfig::kMaskNet: {
        const std::string path = "model_config.mask_net.mask_net_module";
        FirstGroup("model_config.mask_net");
        MaskNet(model_.mask_net().mask_net_module(), path);
        if (!model_.mask_net().mask_net_module().has_top_mlp()) fail_(path, "needs a top_mlp");
        return Head(model_, "model_config");
      }
      case ModelConfig::kMmoe:
        FirstGroup("model_config.mmoe");
        Mlp(model_.mmoe().expert_mlp(), "model_config.mmoe.expert_mlp");
        Experts(model_.mmoe(), "model_config.mmoe");
        return TaskTowers(model_.mmoe(), "model_config.mmoe");
      case ModelConfig::kDbmtl:
        return Dbmtl(model_.dbmtl(), "model_config.dbmtl");
      default:
        return;  // refused by CheckSupported
    }
  }

 private:
  void Mlp(const MLP& mlp, const std::string& path) { CheckMlp(mlp, path, fail_); }

  /// `config`: model_config or a task tower.
  template <typename Config>
  void Head(const Config& config, const std::string& path) {
    CheckHead({config.losses(), config.metrics(), config.train_metrics(), config.num_class(), path}, fail_,
              sparse_fault_);
  }

  const FeatureGroupConfig* FindGroup(const std::string& name) const {
    for (const auto& group : model_.feature_groups()) {
      if (group.group_name() == name) return &group;
    }
    return nullptr;
  }

  static bool IsSequence(const FeatureGroupConfig& group) {
    return group.group_type() != DEEP && group.group_type() != WIDE;
  }

  /// `sequence`: whether it has to be a SEQUENCE group or none.
  void GroupOf(const std::string& name, bool sequence, const std::string& path) {
    const FeatureGroupConfig* group = FindGroup(name);
    if (!group) {
      std::vector<std::string> known;
      for (const auto& other : model_.feature_groups()) known.push_back(other.group_name());
      fail_(path, "there is no feature group '" + name + "'" + DidYouMean(name, known));
    } else if (sequence ? group->group_type() != SEQUENCE : IsSequence(*group)) {
      fail_(path, "feature group '" + name + "' is " + FeatureGroupType_Name(group->group_type()) + ", not " +
                      (sequence ? "SEQUENCE" : "DEEP or WIDE"));
    }
  }

  /// Of models that read the group declared first, whatever its name.
  void FirstGroup(const std::string& path) {
    if (model_.feature_groups_size() == 0) return fail_(path, "there is no feature group");
    if (IsSequence(model_.feature_groups(0)))
      fail_("model_config.feature_groups[0].group_type",
            "the model reads the first group, which has to be DEEP or WIDE");
  }

  template <typename Message>
  void Towers(const Message& message, const std::string& path) {
    std::set<std::string> inputs;
    for (int i = 0; i < message.towers_size(); ++i) {
      const std::string at = path + ".towers[" + std::to_string(i) + "]", input = message.towers(i).input();
      GroupOf(input, /*sequence=*/false, at + ".input");
      if (!inputs.insert(input).second) fail_(at + ".input", "there is another tower of group '" + input + "'");
      Mlp(message.towers(i).mlp(), at + ".mlp");
    }
    if (message.towers_size() == 0) fail_(path, "there are no towers");
    Mlp(message.final(), path + ".final");
  }

  void DinTowers(const MultiTowerDIN& din) {
    for (int i = 0; i < din.din_towers_size(); ++i) {
      const std::string at = "model_config.multi_tower_din.din_towers[" + std::to_string(i) + "]";
      GroupOf(din.din_towers(i).input(), /*sequence=*/true, at + ".input");
      Mlp(din.din_towers(i).attn_mlp(), at + ".attn_mlp");
    }
  }

  void MaskNet(const MaskNetModule& net, const std::string& path) {
    const auto& block = net.mask_block();
    if (net.n_mask_blocks() == 0) fail_(path + ".n_mask_blocks", "must be at least 1");
    if (block.hidden_dim() == 0) fail_(path + ".mask_block.hidden_dim", "must be at least 1");
    if (!(block.reduction_ratio() >= 0)) fail_(path + ".mask_block.reduction_ratio", "must not be negative");
    if (block.reduction_ratio() == 0 && block.aggregation_dim() == 0)
      fail_(path + ".mask_block", "needs a reduction_ratio or an aggregation_dim of more than 0");
    if (net.has_top_mlp()) Mlp(net.top_mlp(), path + ".top_mlp");
  }

  template <typename Message>
  void Experts(const Message& message, const std::string& path) {
    if (message.has_gate_mlp()) Mlp(message.gate_mlp(), path + ".gate_mlp");
    if (message.num_expert() == 0) fail_(path + ".num_expert", "must be at least 1");
  }

  /// task_towers as far as all multi-task models agree on them.
  template <typename Message>
  void TaskTowers(const Message& message, const std::string& path) {
    if (message.task_towers_size() == 0) fail_(path, "there are no task_towers");
    std::set<std::string> names;
    for (int t = 0; t < message.task_towers_size(); ++t) {
      const auto& tower = message.task_towers(t);
      const std::string at = path + ".task_towers[" + std::to_string(t) + "]";
      if (!names.insert(tower.tower_name()).second)
        fail_(at + ".tower_name", "the name '" + tower.tower_name() + "' is used twice");
      Column(tower.label_name(), data_.label_fields(), at + ".label_name", "label_fields");
      if (tower.has_sample_weight_name()) {
        Column(tower.sample_weight_name(), data_.sample_weight_fields(), at + ".sample_weight_name",
               "sample_weight_fields");
      }
      if (tower.has_task_space_indicator_label()) {
        Column(tower.task_space_indicator_label(), data_.label_fields(), at + ".task_space_indicator_label",
               "label_fields");
      }
      if (tower.has_mlp()) Mlp(tower.mlp(), at + ".mlp");
      Head(tower, at);
    }
  }

  void Column(const std::string& name, const google::protobuf::RepeatedPtrField<std::string>& columns,
              const std::string& path, const char* list) {
    if (std::find(columns.begin(), columns.end(), name) != columns.end()) return;
    fail_(path, "'" + name + "' is not in data_config." + list + DidYouMean(name, {columns.begin(), columns.end()}));
  }

  void Dbmtl(const DBMTL& dbmtl, const std::string& path) {
    FirstGroup(path);
    if (dbmtl.has_mask_net()) MaskNet(dbmtl.mask_net(), path + ".mask_net");
    if (dbmtl.has_bottom_mlp()) Mlp(dbmtl.bottom_mlp(), path + ".bottom_mlp");
    if (dbmtl.has_expert_mlp()) {
      Mlp(dbmtl.expert_mlp(), path + ".expert_mlp");
      Experts(dbmtl, path);
    }
    TaskTowers(dbmtl, path);
    std::vector<std::string> before;
    for (int t = 0; t < dbmtl.task_towers_size(); ++t) {
      const auto& tower = dbmtl.task_towers(t);
      const std::string at = path + ".task_towers[" + std::to_string(t) + "]";
      if (tower.tower_name().find('.') != std::string::npos)
        fail_(at + ".tower_name", "'" + tower.tower_name() + "' has a dot, and parameters are named after it");
      if (tower.has_relation_mlp()) Mlp(tower.relation_mlp(), at + ".relation_mlp");
      for (int i = 0; i < tower.relation_tower_names_size() && tower.has_relation_mlp(); ++i) {
        const std::string& name = tower.relation_tower_names(i);
        if (std::find(before.begin(), before.end(), name) == before.end()) {
          fail_(at + ".relation_tower_names[" + std::to_string(i) + "]",
                "no tower '" + name + "' stands before this one" + DidYouMean(name, before));
        }
      }
      before.push_back(tower.tower_name());
    }
  }

  const DataConfig& data_;
  const ModelConfig& model_;
  const Report& fail_;
  const std::function<std::string(const std::string&)>& sparse_fault_;
};

}  // namespace

void CheckModel(const EasyRecConfig& config, const Report& fail,
                const std::function<std::string(const std::string&)>& sparse_fault) {
  ModelRules(config, fail, sparse_fault).Run();
}

void CheckMlp(const MLP& mlp, const std::string& path, const Report& fail) {
  if (mlp.hidden_units_size() == 0) fail(path, "hidden_units is empty");
  if (std::find(mlp.hidden_units().begin(), mlp.hidden_units().end(), 0u) != mlp.hidden_units().end())
    fail(path + ".hidden_units", "must be at least 1");
  if (mlp.use_bn() && mlp.use_ln()) fail(path, "use_bn and use_ln exclude each other");
  if (mlp.dropout_ratio_size() > 1 && mlp.dropout_ratio_size() != mlp.hidden_units_size()) {
    fail(path + ".dropout_ratio", std::to_string(mlp.dropout_ratio_size()) + " values for " +
                                      std::to_string(mlp.hidden_units_size()) + " hidden_units");
  }
  for (const float ratio : mlp.dropout_ratio()) {
    if (!(ratio >= 0 && ratio < 1)) fail(path + ".dropout_ratio", "must be at least 0 and less than 1");
  }
}

}  // namespace anneal::config
