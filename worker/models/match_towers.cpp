#include "worker/models/match_towers.h"

#include <algorithm>
#include <set>

#include "worker/config/feature_kinds.h"
#include "worker/config/feature_rules.h"
#include "worker/features/feature_set.h"

namespace anneal::models {
namespace {

/// Adds the features that those of `names` read in FG_DAG, and what these read.
void AddRead(const tzrec::protos::EasyRecConfig& config, const std::vector<config::FeatureEntry>& entries,
             std::set<std::string>& names) {
  if (config.data_config().fg_mode() != tzrec::protos::FG_DAG) return;
  for (size_t before = 0; before != names.size();) {
    before = names.size();
    for (const config::FeatureEntry& entry : entries) {
      config::VisitFeature(*entry.feature, [&](const auto& feature) {
        if (!names.count(config::FullName(feature.feature_name(), entry))) return;
        for (const config::FeatureInput& input : config::InputsOf(feature)) {
          const auto expression = config::ParseExpression(input.expression);
          if (!expression || expression->side != "feature") continue;
          const std::string group = entry.group ? entry.group->sequence_name() : "";
          names.insert(config::ReadInput(feature, entry.sequence, group, *expression).name);
        }
      });
    }
  }
}

/// The config with those features alone, and those that they read.
tzrec::protos::EasyRecConfig WithFeatures(const tzrec::protos::EasyRecConfig& config, std::set<std::string> wanted) {
  const std::vector<config::FeatureEntry> entries = config::FeatureEntries(config);
  AddRead(config, entries, wanted);
  tzrec::protos::EasyRecConfig own = config;
  own.clear_feature_configs();
  const tzrec::protos::SequenceFeature* group = nullptr;
  for (const config::FeatureEntry& entry : entries) {
    bool kept = false;
    config::VisitFeature(*entry.feature, [&](const auto& feature) {
      kept = wanted.count(config::FullName(feature.feature_name(), entry)) > 0;
    });
    if (!kept) continue;
    const auto& holder = config.feature_configs(entry.config_index);
    if (!entry.group) {
      *own.add_feature_configs() = holder;
      continue;
    }
    if (entry.group != group) {
      group = entry.group;
      *own.add_feature_configs() = holder;
      own.mutable_feature_configs()->rbegin()->mutable_sequence_feature()->clear_features();
    }
    *own.mutable_feature_configs()->rbegin()->mutable_sequence_feature()->add_features() =
        group->features(entry.member_index);
  }
  return own;
}

}  // namespace

tzrec::protos::EasyRecConfig TowerConfig(const tzrec::protos::EasyRecConfig& config, const MatchTower& tower) {
  std::set<std::string> wanted;
  for (const auto& group : config.model_config().feature_groups()) {
    if (!FindTower({tower}, group.group_name())) continue;
    wanted.insert(group.feature_names().begin(), group.feature_names().end());
    for (const auto& nested : group.sequence_groups())
      wanted.insert(nested.feature_names().begin(), nested.feature_names().end());
  }
  return WithFeatures(config, wanted);
}

tzrec::protos::EasyRecConfig ItemEmbeddingConfig(const tzrec::protos::EasyRecConfig& config) {
  const auto features = features::FeatureSet::FromConfig(config);
  std::set<std::string> wanted;
  for (const auto& group : config.model_config().feature_groups()) {
    if (group.group_type() != tzrec::protos::SEQUENCE) continue;
    for (const std::string& name : group.feature_names()) {
      if (const auto* feature = features.Find(name); feature && !feature->sequence) wanted.insert(name);
    }
  }
  return WithFeatures(config, wanted);
}

std::vector<std::string> UnreadGroups(const tzrec::protos::ModelConfig& model) {
  std::vector<std::string> unread;
  const std::vector<MatchTower> towers = MatchTowersOf(model);
  for (const auto& group : model.feature_groups()) {
    if (!towers.empty() && !FindTower(towers, group.group_name())) unread.push_back(group.group_name());
  }
  return unread;
}

std::vector<MatchTower> MatchTowersOf(const tzrec::protos::ModelConfig& model) {
  using tzrec::protos::ModelConfig;
  switch (model.model_case()) {
    case ModelConfig::kDssm:
      return {{"user_tower", {model.dssm().user_tower().input()}}, {"item_tower", {model.dssm().item_tower().input()}}};
    case ModelConfig::kDssmV2:
      return {{"user_tower", {model.dssm_v2().user_tower().input()}, true},
              {"item_tower", {model.dssm_v2().item_tower().input()}, true}};
    case ModelConfig::kMind:
      return {{"user_tower", {model.mind().user_tower().input(), model.mind().user_tower().history_input()}},
              {"item_tower", {model.mind().item_tower().input()}}};
    case ModelConfig::kDat:
      return {{"user_tower", {model.dat().user_tower().input(), model.dat().user_tower().augment_input()}},
              {"item_tower", {model.dat().item_tower().input(), model.dat().item_tower().augment_input()}}};
    default:
      return {};
  }
}

const MatchTower* FindTower(const std::vector<MatchTower>& towers, const std::string& group) {
  const auto reads = [&](const MatchTower& tower) {
    return std::find(tower.groups.begin(), tower.groups.end(), group) != tower.groups.end();
  };
  const auto found = std::find_if(towers.begin(), towers.end(), reads);
  return found == towers.end() ? nullptr : &*found;
}

}  // namespace anneal::models
