#include "worker/models/embedding_group.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "worker/config/error.h"
#include "worker/config/sampler_settings.h"
#include "worker/features/data_groups.h"
#include "worker/features/feature_config.h"
#include "worker/models/match_towers.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::models {
namespace {

using tzrec::protos::FeatureGroupConfig;

/// Width and init function of WIDE tables: fields of the models that have them.
struct Wide {
  int64_t dim = 4;
  std::string init_fn;
};

Wide WideSettings(const tzrec::protos::ModelConfig& model) {
  Wide wide;
  auto take = [&wide](const auto& message) {
    if (message.wide_embedding_dim() > 0) wide.dim = message.wide_embedding_dim();
    wide.init_fn = message.wide_init_fn();
  };
  if (model.has_deepfm()) take(model.deepfm());
  if (model.has_wide_and_deep()) take(model.wide_and_deep());
  if (model.has_xdeepfm()) take(model.xdeepfm());
  return wide;
}

tzrec::protos::ParameterConstraints ConstraintsOf(const features::Feature& feature,
                                                  const tzrec::protos::EasyRecConfig& config) {
  return std::visit([](const auto& encoding) { return encoding.embedding_constraints(); },
                    features::EncodingOf(config, feature));
}

/// What features of one setting share (parity/models.md 3). Of several numbers each is alone; the blanks are
/// TorchEasyRec's.
std::string EmbeddedKey(const features::Feature& feature) {
  const features::DenseEmbedding& setting = *feature.dense_embedding;
  const std::string dim = std::to_string(feature.embedding_dim);
  if (setting.kind == features::DenseEmbedding::Kind::kAutoDis) {
    std::string key = "autodis#" + dim + "#" + std::to_string(setting.channels) + "#" +
                      std::to_string(setting.keep_prob) + "#" + std::to_string(setting.temperature);
    std::replace(key.begin(), key.end(), '.', '_');
    return key;
  }
  if (feature.value_dim == 1) return "mlp#" + dim;
  return "mlp#" + dim + "#vdim#" + std::to_string(feature.value_dim) + "#feature_name#" + std::string(12, ' ') +
         feature.name;
}

class Planner {
 public:
  Planner(const tzrec::protos::ModelConfig& model, const features::FeatureSet& features,
          const tzrec::protos::EasyRecConfig& config, const std::string& tower)
      : model_(model),
        features_(features),
        config_(config),
        wide_(WideSettings(model)),
        towers_(MatchTowersOf(model)),
        tower_(tower),
        items_only_(tower == kItemEmbedding),
        sampler_(config::SamplerOf(config.data_config())) {}

  EmbeddingPlan Run() {
    plan_.dense_width = features_.dense_width();
    plan_.weighted = features_.weighted();
    ForEachGroup([this](const FeatureGroupConfig& group) { CollectEmbedded(group); });
    PlaceEmbedded();
    ForEachGroup([this](const FeatureGroupConfig& group) { AddGroup(group); });
    // One id is the same pooled either way; FBGEMM wants one way for a table.
    for (Lookup& lookup : plan_.lookups) {
      if (lookup.per_element) lookup.pooling = plan_.tables[lookup.table].pooling;
    }
    return std::move(plan_);
  }

 private:
  template <typename Action>
  void ForEachGroup(Action action) {
    for (const auto& group : model_.feature_groups()) {
      const MatchTower* tower = FindTower(towers_, group.group_name());
      if (!towers_.empty() && (!tower || (!tower_.empty() && tower->name != tower_))) continue;
      if (items_only_ && group.group_type() != tzrec::protos::SEQUENCE) continue;
      module_ = tower && !tower->shares_embeddings ? "model." + tower->name + ".embedding_group" : kEmbeddingGroup;
      item_side_ = sampler_ && IsItemSide(group, tower);
      action(group);
    }
  }

  /// Which features share a module is known only when all groups are.
  void CollectEmbedded(const FeatureGroupConfig& config) {
    if (config.group_type() != tzrec::protos::DEEP) return;
    for (const auto& name : config.feature_names()) {
      const features::Feature& feature = Find(name, "feature group '" + config.group_name() + "'");
      if (!feature.dense_embedding) continue;
      EmbeddedFeatures& same = embedded_[EmbeddedName(feature)];
      same.setting = *feature.dense_embedding;
      same.dim = feature.embedding_dim;
      same.value_dim = feature.value_dim;
      const std::pair<std::string, int64_t> entry{name, feature.dense_column};
      const auto place = std::lower_bound(same.features.begin(), same.features.end(), entry);
      if (place == same.features.end() || *place != entry) same.features.insert(place, entry);
    }
  }

  void PlaceEmbedded() {
    for (auto& [name, same] : embedded_) {
      same.state_name = name;
      same.column = plan_.embedded_width;
      plan_.embedded_width += same.dim * static_cast<int64_t>(same.features.size());
      plan_.embedded.push_back(same);
    }
  }

  std::string EmbeddedName(const features::Feature& feature) const {
    return module_ + ".emb_impls." + DataGroup() + ".dense_ec.dense_embs." + EmbeddedKey(feature);
  }

  Block EmbeddedBlock(const features::Feature& feature) const {
    const EmbeddedFeatures& same = embedded_.at(EmbeddedName(feature));
    const auto found = std::find_if(same.features.begin(), same.features.end(),
                                    [&](const auto& entry) { return entry.first == feature.name; });
    return {Block::Source::kEmbedded, same.column + same.dim * (found - same.features.begin()), same.dim};
  }

  std::string DataGroup() const {
    return item_side_ && !config_.data_config().force_base_data_group() ? "__NEG__" : kBaseGroup;
  }

  void AddGroup(const FeatureGroupConfig& config) {
    const std::string where = "feature group '" + config.group_name() + "'";
    switch (config.group_type()) {
      case tzrec::protos::DEEP:
      case tzrec::protos::WIDE:
        return AddPlainGroup(config, where);
      case tzrec::protos::SEQUENCE:
        NoNested(config, where);
        AddSequenceGroup(config.group_name(), config.feature_names(), Suffix(config), where);
        if (model_.has_mind())
          plan_.sequence_groups.back().most = model_.mind().user_tower().capsule_config().max_seq_len();
        return;
      case tzrec::protos::JAGGED_SEQUENCE:
        NoNested(config, where);
        AddSequenceGroup(config.group_name(), config.feature_names(), Suffix(config), where);
        plan_.sequence_groups.back().jagged = true;
        return;
      default:
        throw ConfigError(where + ": group_type " + FeatureGroupType_Name(config.group_type()) +
                          " is not supported yet");
    }
  }

  /// Whether the sampler's items have the group, which has to be the item tower's then.
  bool IsItemSide(const FeatureGroupConfig& config, const MatchTower* tower) const {
    const std::string where = "feature group '" + config.group_name() + "'", fields = sampler_->field + ".attr_fields";
    std::vector<std::string> names(config.feature_names().begin(), config.feature_names().end()), sampled, others;
    for (const auto& nested : config.sequence_groups())
      names.insert(names.end(), nested.feature_names().begin(), nested.feature_names().end());
    for (const std::string& name : names)
      (features::IsSampled(Find(name, where), sampler_->attr_fields) ? sampled : others).push_back(name);
    if (!sampled.empty() && !others.empty() && !config_.data_config().force_base_data_group()) {
      throw ConfigError(where + ": feature '" + sampled.front() + "' is made of " + fields + ", feature '" +
                        others.front() + "' is not; data_config.force_base_data_group allows both in a group");
    }
    const bool items = tower && tower->name == "item_tower";
    if (items && sampled.empty())
      throw ConfigError(where + ": none of its features is made of " + fields + ", so that sampled items have none");
    if (!items && !sampled.empty() && !config_.data_config().force_base_data_group()) {
      throw ConfigError(where + ": feature '" + sampled.front() + "' is made of " + fields +
                        ", and the group is not the item tower's");
    }
    return items;
  }

  template <typename Config>
  static std::string Suffix(const Config& config) {
    return config.has_embedding_name_suffix() ? "_" + config.embedding_name_suffix() : "";
  }

  static void NoNested(const FeatureGroupConfig& config, const std::string& where) {
    if (config.sequence_groups_size() > 0 || config.sequence_encoders_size() > 0) {
      throw ConfigError(where + ": sequence_groups and sequence_encoders belong into a DEEP group");
    }
  }

  const features::Feature& Find(const std::string& name, const std::string& where) const {
    const features::Feature* feature = features_.Find(name);
    if (!feature) throw ConfigError(where + ": there is no feature '" + name + "'");
    return *feature;
  }

  void AddPlainGroup(const FeatureGroupConfig& config, const std::string& where) {
    const bool wide = config.group_type() == tzrec::protos::WIDE;
    if (wide) NoNested(config, where);
    Group group;
    group.name = config.group_name();
    group.module = module_;
    group.item_side = item_side_;
    group.type = config.group_type();
    for (const auto& name : config.feature_names()) {
      const features::Feature& feature = Find(name, where);
      if (feature.sequence) throw ConfigError(where + ": '" + name + "' is a sequence; sequence_groups take those");
      if (wide && !feature.sparse) throw ConfigError(where + ": the dense feature '" + name + "' cannot be WIDE");
      Block block{Block::Source::kDense, feature.dense_column, feature.value_dim};
      if (feature.dense_embedding) block = EmbeddedBlock(feature);
      if (feature.sparse) {
        Table table = TableOf(feature, Suffix(config));
        if (wide) {
          table.name = feature.table + "_wide" + Suffix(config);
          table.dim = wide_.dim;
          if (!wide_.init_fn.empty()) table.init_fn = wide_.init_fn;
        }
        const Lookup& lookup = LookupOf(feature, table, where);
        block = {Block::Source::kPooled, lookup.column, lookup.dim};
      }
      group.features.push_back(name);
      group.feature_dims.push_back(block.width);
      group.assembled_width += block.width;
      Append(group.blocks, block);
    }
    group.width = group.assembled_width;
    AddEncoders(config, where, group);
    if (group.width == 0) throw ConfigError(where + ": it has no features");
    plan_.groups.push_back(std::move(group));
  }

  /// parity/models.md 2.2
  void AddEncoders(const FeatureGroupConfig& config, const std::string& where, Group& group) {
    if ((config.sequence_groups_size() > 0) != (config.sequence_encoders_size() > 0)) {
      throw ConfigError(where + ": sequence_groups and sequence_encoders need each other");
    }
    std::map<std::string, int> nested;
    for (const auto& sequence : config.sequence_groups()) {
      const bool inherits = !sequence.has_group_name() && config.sequence_groups_size() == 1;
      const std::string name = inherits ? config.group_name() : sequence.group_name();
      if (name.empty()) throw ConfigError(where + ": each of several sequence_groups needs a group_name");
      const std::string suffix = sequence.has_embedding_name_suffix() ? Suffix(sequence) : Suffix(config);
      nested[name] = AddSequenceGroup(name, sequence.feature_names(), suffix, "sequence group '" + name + "'");
    }
    for (int i = 0; i < config.sequence_encoders_size(); ++i) {
      const auto& encoder = config.sequence_encoders(i);
      const std::string& input = nn::EncoderInput(encoder);
      const auto found = input.empty() && nested.size() == 1 ? nested.begin() : nested.find(input);
      if (found == nested.end()) {
        throw ConfigError(where + ": sequence_encoders[" + std::to_string(i) + "]: there is no sequence group '" +
                          input + "' in this group");
      }
      group.encoders.push_back({encoder, found->second});
      group.features.push_back(group.name + "_seq_encoder_" + std::to_string(i));
      group.feature_dims.push_back(nn::EncodedWidth(encoder, plan_.sequence_groups[found->second].sequence_width));
      group.width += group.feature_dims.back();
    }
    for (const auto& [name, index] : nested) {
      LimitPositions(group, index);
      const auto reads = [index = index](const Encoder& encoder) { return encoder.input == index; };
      if (std::none_of(group.encoders.begin(), group.encoders.end(), reads)) {
        throw ConfigError(where + ": no sequence encoder reads sequence group '" + name + "'");
      }
    }
  }

  /// Positions behind all encoders' max_seq_length need not be there.
  void LimitPositions(const Group& group, int input) {
    int64_t most = 0;
    for (const Encoder& encoder : group.encoders) {
      if (encoder.input != input) continue;
      const int64_t seen = nn::MaxLength(encoder.config);
      if (seen <= 0) return;
      most = std::max(most, seen);
    }
    plan_.sequence_groups[input].most = most;
  }

  template <typename Names>
  int AddSequenceGroup(const std::string& name, const Names& feature_names, const std::string& suffix,
                       const std::string& where) {
    if (plan_.FindSequenceGroup(name)) throw ConfigError(where + ": the name is used twice");
    SequenceGroup group{name};
    group.item_side = item_side_;
    for (const auto& feature_name : feature_names) {
      if (items_only_ && !features_.Find(feature_name)) continue;  // a sequence: ItemEmbeddingConfig
      const features::Feature& feature = Find(feature_name, where);
      if (feature.dense_embedding)
        throw ConfigError(where + ": '" + feature_name + "' has autodis or mlp, which sequence groups do not apply");
      SequencePart part{false, feature.index, feature.dense_column, feature.value_dim};
      if (feature.sparse) {
        Table table = TableOf(feature, suffix);
        table.sequence = true;
        const Lookup& lookup = LookupOf(feature, table, where);
        part = {true, feature.index, lookup.column, lookup.dim};
      }
      (feature.sequence ? group.sequence : group.query).push_back(part);
      (feature.sequence ? group.sequence_width : group.query_width) += part.width;
    }
    if (group.sequence.empty() && !items_only_) throw ConfigError(where + ": it has no sequence feature");
    plan_.sequence_groups.push_back(std::move(group));
    return static_cast<int>(plan_.sequence_groups.size()) - 1;
  }

  static void Append(std::vector<Block>& blocks, const Block& block) {
    if (!blocks.empty()) {
      Block& last = blocks.back();
      if (last.source == block.source && last.column + last.width == block.column) {
        last.width += block.width;
        return;
      }
    }
    blocks.push_back(block);
  }

  Table TableOf(const features::Feature& feature, const std::string& suffix) const {
    Table table{feature.table + suffix, feature.num_embeddings, feature.embedding_dim,          feature.init_fn,
                feature.trainable,      feature.pooling,        ConstraintsOf(feature, config_)};
    table.module = module_;
    table.data_group = DataGroup();
    return table;
  }

  const Lookup& LookupOf(const features::Feature& feature, const Table& table, const std::string& where) {
    const int index = Share(table, feature, where);
    for (const Lookup& lookup : plan_.lookups) {
      if (lookup.feature == feature.index && lookup.table == index) return lookup;
    }
    int64_t& width = table.sequence ? plan_.element_width : plan_.pooled_width;
    plan_.lookups.push_back({feature.index, index, width, table.dim, feature.sequence,
                             feature.sequence ? feature.sequence_length : 1, feature.pooling,
                             table.sequence && !feature.sequence && feature.value_dim == 1});
    width += table.dim;
    return plan_.lookups.back();
  }

  int Share(const Table& table, const features::Feature& feature, const std::string& where) {
    const auto [found, inserted] = table_index_.try_emplace(
        {table.module + table.data_group, table.sequence, table.name}, static_cast<int>(plan_.tables.size()));
    if (inserted) {
      plan_.tables.push_back(table);
      return found->second;
    }
    Table& other = plan_.tables[found->second];
    if (other.rows != table.rows || other.dim != table.dim || other.init_fn != table.init_fn ||
        (other.pooling != table.pooling && !table.sequence)) {
      throw ConfigError(where + ": feature '" + feature.name + "' can not share embedding '" + table.name +
                        "': rows, width, pooling and init_fn have to agree");
    }
    other.trainable = other.trainable && table.trainable;
    if (table.sequence && !feature.sequence) other.pooling = table.pooling;
    if (other.constraints.sharding_types_size() == 0 && other.constraints.compute_kernels_size() == 0) {
      other.constraints = table.constraints;
    }
    return found->second;
  }

  const tzrec::protos::ModelConfig& model_;
  const features::FeatureSet& features_;
  const tzrec::protos::EasyRecConfig& config_;
  const Wide wide_;
  const std::vector<MatchTower> towers_;
  const std::string tower_;
  const bool items_only_;
  const std::optional<config::SamplerSettings> sampler_;
  // Of the group that is being added.
  std::string module_ = kEmbeddingGroup;
  bool item_side_ = false;
  EmbeddingPlan plan_;
  std::map<std::tuple<std::string, bool, std::string>, int> table_index_;
  std::map<std::string, EmbeddedFeatures> embedded_;  ///< by state name
};

}  // namespace

std::string Table::module_path() const {
  return module + (sequence ? ".seq_emb_impls." + data_group + ".ec_dict." + std::to_string(dim)
                            : ".emb_impls." + data_group + ".ebc");
}

std::string Table::state_name() const {
  return module_path() + (sequence ? ".embeddings." : ".embedding_bags.") + name + ".weight";
}

std::string Table::unique_name() const {
  const bool alone = !sequence && module == kEmbeddingGroup && data_group == kBaseGroup;
  return alone ? name : module_path() + "." + name;
}

const Group* EmbeddingPlan::FindGroup(const std::string& name) const {
  const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.name == name; });
  return found == groups.end() ? nullptr : &*found;
}

const SequenceGroup* EmbeddingPlan::FindSequenceGroup(const std::string& name) const {
  const auto found = std::find_if(sequence_groups.begin(), sequence_groups.end(),
                                  [&](const SequenceGroup& g) { return g.name == name; });
  return found == sequence_groups.end() ? nullptr : &*found;
}

EmbeddingPlan PlanEmbeddings(const tzrec::protos::ModelConfig& model, const features::FeatureSet& features,
                             const tzrec::protos::EasyRecConfig& config, const std::string& tower) {
  return Planner(model, features, config, tower).Run();
}

}  // namespace anneal::models
