#include "worker/config/model_rules.h"

#include <algorithm>
#include <map>
#include <set>

#include "worker/config/head_rules.h"
#include "worker/config/ranker_rules.h"
#include "worker/config/sampler_settings.h"
#include "worker/config/source_map.h"
#include "worker/config/tree_sampler_settings.h"

namespace anneal::config {
namespace {

using namespace tzrec::protos;  // NOLINT: the schema

const std::vector<std::string> kDistances = {"l2", "l1", "cos"};

class ModelRules {
 public:
  ModelRules(const EasyRecConfig& config, const Report& fail, const KnownFeatures& features)
      : config_(config), data_(config.data_config()), model_(config.model_config()), fail_(fail), features_(features) {}

  void Run() {
    Model();
    Pareto();
    Dropout();
    if (const auto sampler = SamplerOf(data_); sampler && !matches_) fail_(sampler->field, "not supported yet");
    if (const auto sampler = TreeSamplerOf(data_); sampler && !model_.has_tdm())
      fail_(sampler->field, "is for tdm, not for this model");
  }

 private:
  void Model() {
    switch (model_.model_case()) {
      case ModelConfig::MODEL_NOT_SET:
        return fail_("model_config", "no model is set");
      case ModelConfig::kDeepfm:
        return Rules(model_.deepfm(), "model_config.deepfm");
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
      case ModelConfig::kMultiTower:
        return Rules(model_.multi_tower(), "model_config.multi_tower");
      case ModelConfig::kMultiTowerDin:
        return Rules(model_.multi_tower_din(), "model_config.multi_tower_din");
      case ModelConfig::kMaskNet:
        return Rules(model_.mask_net(), "model_config.mask_net");
      case ModelConfig::kMmoe:
        return Rules(model_.mmoe(), "model_config.mmoe");
      case ModelConfig::kPle:
        return Rules(model_.ple(), "model_config.ple");
      case ModelConfig::kPepnet:
        return Rules(model_.pepnet(), "model_config.pepnet");
      case ModelConfig::kDbmtl:
        return Rules(model_.dbmtl(), "model_config.dbmtl");
      case ModelConfig::kDc2Vr:
        return Rules(model_.dc2vr(), "model_config.dc2vr");
      case ModelConfig::kDat:
        return Rules(model_.dat(), "model_config.dat");
      case ModelConfig::kDssm:
        return Rules(model_.dssm(), "model_config.dssm");
      case ModelConfig::kDssmV2:
        return Rules(model_.dssm_v2(), "model_config.dssm_v2");
      case ModelConfig::kMind:
        return Rules(model_.mind(), "model_config.mind");
      case ModelConfig::kRocketLaunching:
        return Rules(model_.rocket_launching(), "model_config.rocket_launching");
      case ModelConfig::kDlrmHstu:
        return CheckRanker(config_, model_.dlrm_hstu(), fail_, features_);
      case ModelConfig::kUltraHstu:
        return CheckRanker(config_, model_.ultra_hstu(), fail_, features_);
      case ModelConfig::kSidRqvae:
        return Rules(model_.sid_rqvae(), "model_config.sid_rqvae");
      case ModelConfig::kTdm:
        return Rules(model_.tdm(), "model_config.tdm");
      default:
        return;  // refused by CheckSupported
    }
  }

  /// parity/models.md 7.6
  void Pareto() {
    if (!model_.use_pareto_loss_weight()) return;
    const std::string path = "model_config.use_pareto_loss_weight";
    if (tasks_ == 0) fail_(path, "needs a model with task_towers");
    if (!(least_weights_ < 1)) fail_(path, "the pareto_min_loss_weight of all losses must add up to less than 1");
    if (model_.has_variational_dropout())
      fail_(path, "and variational_dropout, whose losses have no weight, exclude each other");
  }

  /// parity/models.md 4.6
  void Dropout() {
    if (!model_.has_variational_dropout()) return;
    const std::string path = "model_config.variational_dropout";
    if (model_.has_tdm()) fail_(path, "tdm does not apply it");
    if (model_.has_sid_rqvae()) fail_(path, "sid_rqvae does not apply it");
    if (model_.has_dlrm_hstu() || model_.has_ultra_hstu())
      fail_(path, "is not for a model with JAGGED_SEQUENCE groups");
    if (!(model_.variational_dropout().regularization_lambda() >= 0))
      fail_(path + ".regularization_lambda", "must not be negative");
  }

  void Mlp(const MLP& mlp, const std::string& path) { CheckMlp(mlp, path, fail_); }

  /// `config`: model_config or a task tower.
  template <typename Config>
  void Head(const Config& config, const std::string& path) {
    CheckHead({config.losses(), config.metrics(), config.train_metrics(), config.num_class(), path}, fail_,
              features_.sparse_fault);
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
      const std::string at = Item(path + ".towers", i), input = message.towers(i).input();
      GroupOf(input, /*sequence=*/false, at + ".input");
      if (!inputs.insert(input).second) fail_(at + ".input", "there is another tower of group '" + input + "'");
      Mlp(message.towers(i).mlp(), at + ".mlp");
    }
    if (message.towers_size() == 0) fail_(path, "there are no towers");
    Mlp(message.final(), path + ".final");
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
      const std::string at = Item(path + ".task_towers", t);
      if (!names.insert(tower.tower_name()).second)
        fail_(at + ".tower_name", "the name '" + tower.tower_name() + "' is used twice");
      Column(tower.label_name(), data_.label_fields(), at + ".label_name", "label_fields");
      if constexpr (requires { tower.sample_weight_name(); }) {
        if (tower.has_sample_weight_name()) {
          Column(tower.sample_weight_name(), data_.sample_weight_fields(), at + ".sample_weight_name",
                 "sample_weight_fields");
        }
      }
      if (tower.has_task_space_indicator_label()) {
        Column(tower.task_space_indicator_label(), data_.label_fields(), at + ".task_space_indicator_label",
               "label_fields");
      }
      if (tower.has_mlp()) Mlp(tower.mlp(), at + ".mlp");
      if (!(tower.pareto_min_loss_weight() >= 0 && tower.pareto_min_loss_weight() < 1))
        fail_(at + ".pareto_min_loss_weight", "must be at least 0 and less than 1");
      least_weights_ += static_cast<double>(tower.pareto_min_loss_weight()) * tower.losses_size();
      ++tasks_;
      Head(tower, at);
    }
  }

  void Column(const std::string& name, const google::protobuf::RepeatedPtrField<std::string>& columns,
              const std::string& path, const char* list) {
    if (std::find(columns.begin(), columns.end(), name) != columns.end()) return;
    fail_(path, "'" + name + "' is not in data_config." + list + DidYouMean(name, {columns.begin(), columns.end()}));
  }

  void Rules(const DeepFM& model, const std::string& path) { WideAndDeepParts(model, path); }
  void Rules(const WideAndDeep& model, const std::string& path) { WideAndDeepParts(model, path); }

  template <typename Model>
  void WideAndDeepParts(const Model& model, const std::string& path) {
    NeedsGroup("wide", path);
    NeedsGroup("deep", path);
    Mlp(model.deep(), path + ".deep");
    if (model.has_final()) Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
  }

  void Rules(const MultiTower& model, const std::string& path) {
    Towers(model, path);
    Head(model_, "model_config");
  }

  void Rules(const MultiTowerDIN& model, const std::string& path) {
    Towers(model, path);
    for (int i = 0; i < model.din_towers_size(); ++i) {
      const std::string at = Item(path + ".din_towers", i);
      GroupOf(model.din_towers(i).input(), /*sequence=*/true, at + ".input");
      Mlp(model.din_towers(i).attn_mlp(), at + ".attn_mlp");
    }
    Head(model_, "model_config");
  }

  void Rules(const tzrec::protos::MaskNet& model, const std::string& path) {
    FirstGroup(path);
    MaskNet(model.mask_net_module(), path + ".mask_net_module");
    if (!model.mask_net_module().has_top_mlp()) fail_(path + ".mask_net_module", "needs a top_mlp");
    Head(model_, "model_config");
  }

  void Rules(const MMoE& model, const std::string& path) {
    FirstGroup(path);
    Mlp(model.expert_mlp(), path + ".expert_mlp");
    Experts(model, path);
    TaskTowers(model, path);
  }

  void Rules(const DBMTL& dbmtl, const std::string& path) {
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
      const std::string at = Item(path + ".task_towers", t);
      NoDot(tower.tower_name(), at + ".tower_name");
      if (tower.has_relation_mlp()) {
        Mlp(tower.relation_mlp(), at + ".relation_mlp");
        TowersBefore(tower.relation_tower_names(), before, at + ".relation_tower_names");
      }
      before.push_back(tower.tower_name());
    }
  }

  void Rules(const DC2VR& model, const std::string& path) {
    FirstGroup(path);
    if (model.has_bottom_mlp()) Mlp(model.bottom_mlp(), path + ".bottom_mlp");
    if (model.has_expert_mlp()) {
      Mlp(model.expert_mlp(), path + ".expert_mlp");
      Experts(model, path);
    }
    TaskTowers(model, path);
    // A tower's vector is as wide as the last layer before it; without one as the group, which is not known here: 0.
    const auto width_of = [](const MLP& mlp) -> int64_t {
      return mlp.hidden_units_size() == 0 ? 0 : mlp.hidden_units(mlp.hidden_units_size() - 1);
    };
    const int64_t shared = width_of(model.has_expert_mlp() ? model.expert_mlp() : model.bottom_mlp());
    std::map<std::string, int64_t> widths;
    std::vector<std::string> before;
    for (int t = 0; t < model.task_towers_size(); ++t) {
      const auto& tower = model.task_towers(t);
      const std::string at = Item(path + ".task_towers", t);
      NoDot(tower.tower_name(), at + ".tower_name");
      TowersBefore(tower.intervention_tower_names(), before, at + ".intervention_tower_names");
      AtLeastOne(tower.low_rank_dim(), at + ".low_rank_dim");
      const int64_t width = widths[tower.tower_name()] = tower.has_mlp() ? width_of(tower.mlp()) : shared;
      int64_t others = 0;
      bool known = width > 0 && tower.intervention_tower_names_size() > 0;
      for (const std::string& name : tower.intervention_tower_names()) {
        known = known && widths[name] > 0;
        others += widths[name];
      }
      if (known && tower.low_rank_dim() >= std::min(width, others)) {
        fail_(at + ".low_rank_dim", "must be less than the tower's vector, " + std::to_string(width) +
                                        " wide, and those of intervention_tower_names, together " +
                                        std::to_string(others));
      }
      if (!(tower.dropout_ratio() >= 0 && tower.dropout_ratio() < 1))
        fail_(at + ".dropout_ratio", "must be at least 0 and less than 1");
      before.push_back(tower.tower_name());
    }
  }

  void NoDot(const std::string& tower, const std::string& path) {
    if (tower.find('.') != std::string::npos)
      fail_(path, "'" + tower + "' has a dot, and parameters are named after it");
  }

  template <typename Names>
  void TowersBefore(const Names& names, const std::vector<std::string>& before, const std::string& path) {
    for (int i = 0; i < names.size(); ++i) {
      if (std::find(before.begin(), before.end(), names[i]) == before.end()) {
        fail_(Item(path, i), "no tower '" + names[i] + "' stands before this one" + DidYouMean(names[i], before));
      }
    }
  }

  void Rules(const DCNV1& model, const std::string& path) {
    FirstGroup(path);
    AtLeastOne(model.cross().cross_num(), path + ".cross.cross_num");
    Mlp(model.deep(), path + ".deep");
    Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
  }

  void Rules(const DCNV2& model, const std::string& path) {
    FirstGroup(path);
    if (model.has_backbone()) Mlp(model.backbone(), path + ".backbone");
    AtLeastOne(model.cross().cross_num(), path + ".cross.cross_num");
    AtLeastOne(model.cross().low_rank(), path + ".cross.low_rank");
    if (model.has_deep()) Mlp(model.deep(), path + ".deep");
    Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
  }

  void Rules(const DLRM& model, const std::string& path) {
    DenseAndSparse(model, path);
    Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
  }

  void Rules(const WuKong& model, const std::string& path) {
    DenseAndSparse(model, path);
    for (int i = 0; i < model.wukong_layers_size(); ++i) {
      const auto& layer = model.wukong_layers(i);
      const std::string at = Item(path + ".wukong_layers", i);
      AtLeastOne(layer.lcb_feature_num(), at + ".lcb_feature_num");
      AtLeastOne(layer.fmb_feature_num(), at + ".fmb_feature_num");
      AtLeastOne(layer.compressed_feature_num(), at + ".compressed_feature_num");
      Mlp(layer.feature_num_mlp(), at + ".feature_num_mlp");
    }
    Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
  }

  void Rules(const xDeepFM& model, const std::string& path) {
    NeedsGroup("wide", path);
    NeedsGroup("deep", path);
    if (const auto* wide = FindGroup("wide"); wide && wide->group_type() != WIDE)
      fail_(GroupPath(*wide) + ".group_type", "the group 'wide' of this model has to be WIDE");
    Widths(model.cin().cin_layer_size(), path + ".cin", "cin_layer_size");
    Mlp(model.deep(), path + ".deep");
    Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
  }

  void Rules(const PLE& model, const std::string& path) {
    FirstGroup(path);
    if (model.extraction_networks_size() == 0) fail_(path, "there are no extraction_networks");
    for (int k = 0; k < model.extraction_networks_size(); ++k) {
      const auto& net = model.extraction_networks(k);
      const std::string at = Item(path + ".extraction_networks", k);
      AtLeastOne(net.expert_num_per_task(), at + ".expert_num_per_task");
      Mlp(net.task_expert_net(), at + ".task_expert_net");
      if (net.share_num() == 0) continue;
      Mlp(net.share_expert_net(), at + ".share_expert_net");
      const auto &own = net.task_expert_net().hidden_units(), &shared = net.share_expert_net().hidden_units();
      if (!own.empty() && !shared.empty() && *own.rbegin() != *shared.rbegin()) {
        fail_(Item(at + ".share_expert_net.hidden_units", shared.size() - 1),
              "is " + std::to_string(*shared.rbegin()) + ", but the last of task_expert_net is " +
                  std::to_string(*own.rbegin()) + ": gates mix both");
      }
    }
    TaskTowers(model, path);
  }

  void Rules(const PEPNet& model, const std::string& path) {
    NeedsGroup("all", path);
    if (FindGroup("uia")) Widths(model.ppnet_hidden_units(), path, "ppnet_hidden_units");
    const int ratios = model.ppnet_dropout_ratio_size(), layers = model.ppnet_hidden_units_size();
    if (ratios > 1 && ratios != layers) {
      fail_(path + ".ppnet_dropout_ratio",
            std::to_string(ratios) + " values for " + std::to_string(layers) + " ppnet_hidden_units");
    }
    for (const float ratio : model.ppnet_dropout_ratio()) {
      if (!(ratio >= 0 && ratio < 1)) fail_(path + ".ppnet_dropout_ratio", "must be at least 0 and less than 1");
    }
    TaskTowers(model, path);
    if (model.domain_input_name().empty()) {
      if (model.task_domain_num() > 1) fail_(path + ".task_domain_num", "needs domain_input_name");
      return;
    }
    Column(model.domain_input_name(), data_.label_fields(), path + ".domain_input_name", "label_fields");
    AtLeastOne(model.task_domain_num(), path + ".task_domain_num");
    for (int t = 0; t < model.task_towers_size(); ++t) {
      if (model.task_towers(t).num_class() > 1)
        fail_(Item(path + ".task_towers", t) + ".num_class", "must be 1 where a task has a tower per domain");
    }
  }

  void Rules(const DSSM& model, const std::string& path) { VectorTowers(model, path); }
  void Rules(const DSSMV2& model, const std::string& path) {
    VectorTowers(model, path);
    if (data_.sampler_case() != DataConfig::SAMPLER_NOT_SET && !data_.force_base_data_group())
      fail_("data_config.force_base_data_group", "has to be true for dssm_v2 with a sampler: its towers share tables");
  }

  template <typename Model>
  void VectorTowers(const Model& model, const std::string& path) {
    VectorTower(model.user_tower(), path + ".user_tower");
    OtherGroup(model.user_tower().input(), model.item_tower().input(), path);
    Match(model, path);
  }

  void Rules(const DAT& model, const std::string& path) {
    VectorTower(model.user_tower(), path + ".user_tower");
    DeepGroup(model.user_tower().augment_input(), path + ".user_tower.augment_input");
    DeepGroup(model.item_tower().augment_input(), path + ".item_tower.augment_input");
    std::set<std::string> groups;
    for (const std::string& group : {model.user_tower().input(), model.user_tower().augment_input(),
                                     model.item_tower().input(), model.item_tower().augment_input()}) {
      if (!groups.insert(group).second) fail_(path, "group '" + group + "' is the input of two");
    }
    Match(model, path);
  }

  void Rules(const MIND& model, const std::string& path) {
    const auto& tower = model.user_tower();
    const std::string at = path + ".user_tower";
    DeepGroup(tower.input(), at + ".input");
    GroupOf(tower.history_input(), /*sequence=*/true, at + ".history_input");
    Mlp(tower.user_mlp(), at + ".user_mlp");
    if (tower.user_mlp().hidden_units_size() == 1) fail_(at + ".user_mlp.hidden_units", "needs at least 2 layers");
    if (tower.has_hist_seq_mlp()) Mlp(tower.hist_seq_mlp(), at + ".hist_seq_mlp");
    Mlp(tower.concat_mlp(), at + ".concat_mlp");
    const auto& capsules = tower.capsule_config();
    const std::string of_capsules = at + ".capsule_config";
    AtLeastOne(capsules.max_k(), of_capsules + ".max_k");
    AtLeastOne(capsules.max_seq_len(), of_capsules + ".max_seq_len");
    AtLeastOne(capsules.high_dim(), of_capsules + ".high_dim");
    AtLeastOne(capsules.num_iters(), of_capsules + ".num_iters");
    const std::string& routing = capsules.routing_init_method();
    if (routing != "normal" && routing != "zeros")
      fail_(of_capsules + ".routing_init_method", "'" + routing + "' is not normal or zeros");
    if (!(capsules.routing_logits_stddev() >= 0)) fail_(of_capsules + ".routing_logits_stddev", "must not be negative");
    if (!(capsules.routing_logits_scale() > 0)) fail_(of_capsules + ".routing_logits_scale", "must be more than 0");
    if (!(capsules.squash_pow() > 0)) fail_(of_capsules + ".squash_pow", "must be more than 0");
    OtherGroup(tower.input(), model.item_tower().input(), path);
    Match(model, path);
  }

  void DeepGroup(const std::string& name, const std::string& path) {
    GroupOf(name, /*sequence=*/false, path);
    if (const auto* group = FindGroup(name); group && group->group_type() == WIDE)
      fail_(path, "feature group '" + name + "' is WIDE, not DEEP");
  }

  /// `Tower`: Tower or DATTower.
  template <typename Tower>
  void VectorTower(const Tower& tower, const std::string& path) {
    DeepGroup(tower.input(), path + ".input");
    Mlp(tower.mlp(), path + ".mlp");
  }

  /// What all match models have (parity/models.md 7.5, 8, 11).
  template <typename Model>
  void Match(const Model& model, const std::string& path) {
    matches_ = true;
    CheckSampler(data_, fail_);
    VectorTower(model.item_tower(), path + ".item_tower");
    const auto last = [](const MLP& mlp) { return mlp.hidden_units().empty() ? 0 : *mlp.hidden_units().rbegin(); };
    const int64_t user = last(LastMlp(model.user_tower())), item = last(model.item_tower().mlp());
    if (model.output_dim() < 0) fail_(path + ".output_dim", "must not be negative");
    if (model.output_dim() == 0 && user > 0 && item > 0 && user != item) {
      fail_(path + ".output_dim", "is 0, and the towers' vectors have " + std::to_string(user) + " and " +
                                      std::to_string(item) + " numbers: they are compared");
    }
    if (model.similarity() == EUCLID) fail_(path + ".similarity", "EUCLID is not COSINE or INNER_PRODUCT");
    if (!(model.temperature() > 0)) fail_(path + ".temperature", "must be more than 0");
    if (!model.in_batch_negative() && data_.sampler_case() == DataConfig::SAMPLER_NOT_SET)
      fail_(path + ".in_batch_negative", "is false, and data_config has no negative sampler: there are no negatives");
    if (data_.label_fields().empty()) fail_("data_config.label_fields", "is empty");
    if (model_.losses_size() != 1 || !model_.losses(0).has_softmax_cross_entropy())
      fail_("model_config.losses", "a match model has one loss, softmax_cross_entropy");
    for (int i = 0; i < model_.metrics_size(); ++i) Recall(model_.metrics(i), Item("model_config.metrics", i));
    for (int i = 0; i < model_.train_metrics_size(); ++i) {
      const std::string at = Item("model_config.train_metrics", i);
      Recall(model_.train_metrics(i), at);
      CheckDecay(model_.train_metrics(i), at, fail_);
    }
  }

  template <typename Tower>
  static const MLP& LastMlp(const Tower& tower) {
    return tower.mlp();
  }
  static const MLP& LastMlp(const MINDUserTower& tower) { return tower.concat_mlp(); }

  void OtherGroup(const std::string& user, const std::string& item, const std::string& path) {
    if (user == item) fail_(path + ".item_tower.input", "group '" + item + "' is the user tower's");
  }

  template <typename Metric>
  void Recall(const Metric& metric, const std::string& path) {
    if (!metric.has_recall_at_k()) {
      fail_(path, "a match model has no metric but recall_at_k");
    } else {
      AtLeastOne(metric.recall_at_k().top_k(), path + ".recall_at_k.top_k");
    }
  }

  void Rules(const RocketLaunching& model, const std::string& path) {
    FirstGroup(path);
    if (model.has_share_mlp()) Mlp(model.share_mlp(), path + ".share_mlp");
    Mlp(model.booster_mlp(), path + ".booster_mlp");
    Mlp(model.light_mlp(), path + ".light_mlp");
    Head(model_, "model_config");
  }

  /// parity/models.md 7.7, 15
  void Rules(const SidRqvae& model, const std::string& path) {
    FirstGroup(path);
    AtLeastOne(model.embed_dim(), path + ".embed_dim");
    if (!model.hidden_dims().empty()) Widths(model.hidden_dims(), path, "hidden_dims");
    Widths(model.codebook(), path, "codebook");
    OneOf(model.forward_mode(), {"ste", "gumbel_softmax"}, path + ".forward_mode");
    OneOf(model.distance_type(), {"l2", "cosine"}, path + ".distance_type");
    if (model.rotation_trick() && model.forward_mode() == "gumbel_softmax")
      fail_(path + ".rotation_trick", "is for forward_mode ste");
    if (!(model.sinkhorn_config().epsilon() > 0)) fail_(path + ".sinkhorn_config.epsilon", "must be more than 0");
    if (model_.losses().empty()) fail_("model_config.losses", "is empty");
    std::set<int> losses;
    for (int i = 0; i < model_.losses_size(); ++i) {
      const auto& loss = model_.losses(i);
      const std::string at = Item("model_config.losses", i);
      if (loss.sid_loss_case() == LossConfig::SID_LOSS_NOT_SET) {
        fail_(at, "this model has recon_loss and commitment_loss only");
      } else if (!losses.insert(loss.sid_loss_case()).second) {
        fail_(at, "is there twice");
      }
      if (loss.has_recon_loss()) OneOf(loss.recon_loss().recon_type(), kDistances, at + ".recon_loss.recon_type");
      if (!loss.has_commitment_loss()) continue;
      const auto& commitment = loss.commitment_loss();
      OneOf(commitment.commitment_type(), kDistances, at + ".commitment_loss.commitment_type");
      if (commitment.latent_weight_size() != 0 && commitment.latent_weight_size() != 2)
        fail_(at + ".commitment_loss.latent_weight", "needs 2 numbers");
    }
    if (!model_.metrics().empty())
      fail_("model_config.metrics", "this model's are fixed: mse, rel_loss, unique_sid_ratio");
    if (!model_.train_metrics().empty()) fail_("model_config.train_metrics", "this model has none");
  }

  void OneOf(const std::string& value, const std::vector<std::string>& known, const std::string& path) {
    if (std::find(known.begin(), known.end(), value) != known.end()) return;
    std::string text;
    for (const std::string& name : known) text += (text.empty() ? "" : ", ") + name;
    fail_(path, "'" + value + "' is not one of " + text);
  }

  void Rules(const TDM& model, const std::string& path) {
    const FeatureGroupConfig* sequence = nullptr;
    for (const auto& group : model_.feature_groups()) {
      if (group.group_type() != SEQUENCE) continue;
      if (sequence) {
        fail_(GroupPath(group) + ".group_type",
              "this model reads one SEQUENCE group, and '" + sequence->group_name() + "' is one already");
      } else {
        sequence = &group;
      }
    }
    if (!sequence) fail_(path, "needs a SEQUENCE group");
    Widths(model.multiwindow_din().windows_len(), path + ".multiwindow_din", "windows_len");
    Mlp(model.multiwindow_din().attn_mlp(), path + ".multiwindow_din.attn_mlp");
    Mlp(model.final(), path + ".final");
    Head(model_, "model_config");
    CheckTreeSampler(data_, fail_);
  }

  /// Groups and dense_mlp of DLRM and WuKong.
  template <typename Model>
  void DenseAndSparse(const Model& model, const std::string& path) {
    const bool one = model_.feature_groups_size() == 1;
    const FeatureGroupConfig* sparse = one ? &model_.feature_groups(0) : FindGroup("sparse");
    const FeatureGroupConfig* dense = one ? nullptr : FindGroup("dense");
    if (!sparse) fail_(path, "needs a feature group named 'sparse', or one group alone");
    for (const FeatureGroupConfig* group : {sparse, dense}) {
      if (group && group->sequence_encoders_size() > 0)
        fail_(GroupPath(*group), "a dense or sparse group of this model must not have sequence features");
    }
    const int64_t width = sparse ? OneWidth(*sparse) : 0;
    if (!dense) return;
    if (!model.has_dense_mlp()) return fail_(path, "the feature group 'dense' needs dense_mlp");
    Mlp(model.dense_mlp(), path + ".dense_mlp");
    const auto& units = model.dense_mlp().hidden_units();
    if (width > 0 && !units.empty() && *units.rbegin() != width) {
      fail_(Item(path + ".dense_mlp.hidden_units", units.size() - 1),
            "is " + std::to_string(*units.rbegin()) + ", but the features of group '" + sparse->group_name() +
                "' are " + std::to_string(width) + " wide");
    }
  }

  /// That of the group's features; 0 when it is not known or they differ.
  int64_t OneWidth(const FeatureGroupConfig& group) {
    int64_t width = 0;
    for (int i = 0; i < group.feature_names_size(); ++i) {
      const int64_t own = features_.width(group.feature_names(i));
      if (own == 0) return 0;
      if (i > 0 && own != width) {
        fail_(Item(GroupPath(group) + ".feature_names", i),
              "'" + group.feature_names(i) + "' is " + std::to_string(own) + " wide, '" + group.feature_names(0) +
                  "' " + std::to_string(width) + ": this model needs one width");
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

  /// A list of the message at `path` that must hold something, and no 0.
  template <typename List>
  void Widths(const List& list, const std::string& path, const std::string& field) {
    if (list.empty()) fail_(path, field + " is empty");
    for (const uint32_t width : list) AtLeastOne(width, path + "." + field);
  }

  void AtLeastOne(int64_t value, const std::string& path) {
    if (value == 0) fail_(path, "must be at least 1");
  }

  void NeedsGroup(const std::string& name, const std::string& path) {
    if (!FindGroup(name)) return fail_(path, "needs a feature group named '" + name + "'");
    GroupOf(name, /*sequence=*/false, path);
  }

  const EasyRecConfig& config_;
  const DataConfig& data_;
  const ModelConfig& model_;
  const Report& fail_;
  const KnownFeatures& features_;
  bool matches_ = false;      ///< users with items: what samplers are for
  int tasks_ = 0;             ///< task_towers
  double least_weights_ = 0;  ///< the sum of pareto_min_loss_weight of every loss
};

}  // namespace

void CheckModel(const EasyRecConfig& config, const Report& fail, const KnownFeatures& features) {
  ModelRules(config, fail, features).Run();
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
