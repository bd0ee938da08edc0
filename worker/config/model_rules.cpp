#include "worker/config/model_rules.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

class ModelRules {
 public:
  ModelRules(const ModelConfig& model, const ModelChecks& checks) : model_(model), checks_(checks) {}

  void Run() {
    switch (model_.model_case()) {
      case ModelConfig::kWideAndDeep:
        return Rules(model_.wide_and_deep(), "model_config.wide_and_deep");
      case ModelConfig::kDcnV1:
        return Rules(model_.dcn_v1(), "model_config.dcn_v1");
      case ModelConfig::kDcnV2:
        return Rules(model_.dcn_v2(), "model_config.dcn_v2");
      case ModelConfig::kDlrm:
        return Rules(model_.dlrm(), "model_config.dlrm");
      case ModelConfig::kWukong:
        return Rules(model_.wukong(), "model_config.wukong");
      case ModelConfig::kXdeepfm:
        return Rules(model_.xdeepfm(), "model_config.xdeepfm");
      case ModelConfig::kPle:
        return Rules(model_.ple(), "model_config.ple");
      case ModelConfig::kPepnet:
        return Rules(model_.pepnet(), "model_config.pepnet");
      default:
        return;
    }
  }

 private:
  void Rules(const WideAndDeep& model, const std::string& path) {
    NeedsGroup("wide", path);
    NeedsGroup("deep", path);
    checks_.mlp(model.deep(), path + ".deep");
    if (model.has_final()) checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const DCNV1& model, const std::string& path) {
    NeedsAnyGroup(path);
    AtLeastOne(model.cross().cross_num(), path + ".cross.cross_num");
    checks_.mlp(model.deep(), path + ".deep");
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const DCNV2& model, const std::string& path) {
    NeedsAnyGroup(path);
    if (model.has_backbone()) checks_.mlp(model.backbone(), path + ".backbone");
    AtLeastOne(model.cross().cross_num(), path + ".cross.cross_num");
    AtLeastOne(model.cross().low_rank(), path + ".cross.low_rank");
    if (model.has_deep()) checks_.mlp(model.deep(), path + ".deep");
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const DLRM& model, const std::string& path) {
    DenseAndSparse(model, path);
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const WuKong& model, const std::string& path) {
    DenseAndSparse(model, path);
    for (int i = 0; i < model.wukong_layers_size(); ++i) {
      const auto& layer = model.wukong_layers(i);
      const std::string at = Item(path + ".wukong_layers", i);
      AtLeastOne(layer.lcb_feature_num(), at + ".lcb_feature_num");
      AtLeastOne(layer.fmb_feature_num(), at + ".fmb_feature_num");
      AtLeastOne(layer.compressed_feature_num(), at + ".compressed_feature_num");
      checks_.mlp(layer.feature_num_mlp(), at + ".feature_num_mlp");
    }
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const xDeepFM& model, const std::string& path) {
    NeedsGroup("wide", path);
    NeedsGroup("deep", path);
    if (const auto* wide = FindGroup("wide"); wide && wide->group_type() != WIDE)
      checks_.fail(GroupPath(*wide) + ".group_type", "the group 'wide' of this model has to be WIDE");
    Widths(model.cin().cin_layer_size(), path + ".cin", "cin_layer_size");
    checks_.mlp(model.deep(), path + ".deep");
    checks_.mlp(model.final(), path + ".final");
    checks_.single_head();
  }

  void Rules(const PLE& model, const std::string& path) {
    NeedsAnyGroup(path);
    if (model.extraction_networks_size() == 0) checks_.fail(path, "there are no extraction_networks");
    for (int k = 0; k < model.extraction_networks_size(); ++k) {
      const auto& net = model.extraction_networks(k);
      const std::string at = Item(path + ".extraction_networks", k);
      AtLeastOne(net.expert_num_per_task(), at + ".expert_num_per_task");
      checks_.mlp(net.task_expert_net(), at + ".task_expert_net");
      if (net.share_num() == 0) continue;
      checks_.mlp(net.share_expert_net(), at + ".share_expert_net");
      const auto &own = net.task_expert_net().hidden_units(), &shared = net.share_expert_net().hidden_units();
      if (!own.empty() && !shared.empty() && *own.rbegin() != *shared.rbegin()) {
        checks_.fail(Item(at + ".share_expert_net.hidden_units", shared.size() - 1),
                     "is " + std::to_string(*shared.rbegin()) + ", but the last of task_expert_net is " +
                         std::to_string(*own.rbegin()) + ": gates mix both");
      }
    }
    checks_.task_towers(model.task_towers(), path);
  }

  void Rules(const PEPNet& model, const std::string& path) {
    NeedsGroup("all", path);
    if (FindGroup("uia")) Widths(model.ppnet_hidden_units(), path, "ppnet_hidden_units");
    const int ratios = model.ppnet_dropout_ratio_size(), layers = model.ppnet_hidden_units_size();
    if (ratios > 1 && ratios != layers) {
      checks_.fail(path + ".ppnet_dropout_ratio",
                   std::to_string(ratios) + " values for " + std::to_string(layers) + " ppnet_hidden_units");
    }
    for (const float ratio : model.ppnet_dropout_ratio()) {
      if (!(ratio >= 0 && ratio < 1)) checks_.fail(path + ".ppnet_dropout_ratio", "must be at least 0 and less than 1");
    }
    checks_.task_towers(model.task_towers(), path);
  }

  /// Groups and dense_mlp of DLRM and WuKong.
  template <typename Model>
  void DenseAndSparse(const Model& model, const std::string& path) {
    const bool one = model_.feature_groups_size() == 1;
    const FeatureGroupConfig* sparse = one ? &model_.feature_groups(0) : FindGroup("sparse");
    const FeatureGroupConfig* dense = one ? nullptr : FindGroup("dense");
    if (!sparse) checks_.fail(path, "needs a feature group named 'sparse', or one group alone");
    for (const FeatureGroupConfig* group : {sparse, dense}) {
      if (group && group->sequence_encoders_size() > 0)
        checks_.fail(GroupPath(*group), "a dense or sparse group of this model must not have sequence features");
    }
    const int64_t width = sparse ? OneWidth(*sparse) : 0;
    if (!dense) return;
    if (!model.has_dense_mlp()) return checks_.fail(path, "the feature group 'dense' needs dense_mlp");
    checks_.mlp(model.dense_mlp(), path + ".dense_mlp");
    const auto& units = model.dense_mlp().hidden_units();
    if (width > 0 && !units.empty() && *units.rbegin() != width) {
      checks_.fail(Item(path + ".dense_mlp.hidden_units", units.size() - 1),
                   "is " + std::to_string(*units.rbegin()) + ", but the features of group '" + sparse->group_name() +
                       "' are " + std::to_string(width) + " wide");
    }
  }

  /// That of the group's features; 0 when it is not known or they differ.
  int64_t OneWidth(const FeatureGroupConfig& group) {
    int64_t width = 0;
    for (int i = 0; i < group.feature_names_size(); ++i) {
      const int64_t own = checks_.width(group.feature_names(i));
      if (own == 0) return 0;
      if (i > 0 && own != width) {
        checks_.fail(Item(GroupPath(group) + ".feature_names", i),
                     "'" + group.feature_names(i) + "' is " + std::to_string(own) + " wide, '" +
                         group.feature_names(0) + "' " + std::to_string(width) + ": this model needs one width");
        return 0;
      }
      width = own;
    }
    return width;
  }

  std::string GroupPath(const FeatureGroupConfig& group) const {
    int g = 0;
    while (&model_.feature_groups(g) != &group) ++g;
    return Item("model_config.feature_groups", g);
  }

  static std::string Item(const std::string& list, int i) { return list + "[" + std::to_string(i) + "]"; }

  /// A list of the message at `path` that must hold something, and no 0.
  template <typename List>
  void Widths(const List& list, const std::string& path, const std::string& field) {
    if (list.empty()) checks_.fail(path, field + " is empty");
    for (const uint32_t width : list) AtLeastOne(width, path + "." + field);
  }

  void AtLeastOne(int64_t value, const std::string& path) {
    if (value == 0) checks_.fail(path, "must be at least 1");
  }

  void NeedsAnyGroup(const std::string& path) {
    if (model_.feature_groups_size() == 0) checks_.fail(path, "there is no feature group");
  }

  const FeatureGroupConfig* FindGroup(const std::string& name) const {
    for (const auto& group : model_.feature_groups()) {
      if (group.group_name() == name) return &group;
    }
    return nullptr;
  }

  void NeedsGroup(const std::string& name, const std::string& path) {
    if (!FindGroup(name)) checks_.fail(path, "needs a feature group named '" + name + "'");
  }

  const ModelConfig& model_;
  const ModelChecks& checks_;
};

}  // namespace

void CheckModel(const ModelConfig& model, const ModelChecks& checks) { ModelRules(model, checks).Run(); }

}  // namespace anneal::config
