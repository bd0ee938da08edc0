#include "worker/models/match_towers.h"

#include <algorithm>
#include <set>

#include "worker/features/feature_set.h"

namespace anneal::models {
namespace {

using google::protobuf::Message;

/// The message of the oneof member that is set; null when none is.
template <typename Config>
const Message* MemberOf(const Config& config) {
  const auto* oneof = Config::descriptor()->FindOneofByName("feature");
  const auto* field = config.GetReflection()->GetOneofFieldDescriptor(config, oneof);
  return field ? &config.GetReflection()->GetMessage(config, field) : nullptr;
}

/// Whether the feature, named with `prefix` before its own name, is one of those.
bool IsAmong(const std::set<std::string>& names, const std::string& prefix, const Message* feature) {
  if (!feature) return false;
  const auto* field = feature->GetDescriptor()->FindFieldByName("feature_name");
  return field && names.count(prefix + feature->GetReflection()->GetString(*feature, field)) > 0;
}

/// The config with those features alone.
tzrec::protos::EasyRecConfig WithFeatures(const tzrec::protos::EasyRecConfig& config,
                                          const std::set<std::string>& wanted) {
  tzrec::protos::EasyRecConfig own = config;
  own.clear_feature_configs();
  for (const auto& feature : config.feature_configs()) {
    if (!feature.has_sequence_feature()) {
      if (IsAmong(wanted, "", MemberOf(feature))) *own.add_feature_configs() = feature;
      continue;
    }
    tzrec::protos::FeatureConfig sequence = feature;
    auto& members = *sequence.mutable_sequence_feature()->mutable_features();
    members.Clear();
    for (const auto& member : feature.sequence_feature().features()) {
      if (IsAmong(wanted, feature.sequence_feature().sequence_name() + "__", MemberOf(member))) *members.Add() = member;
    }
    if (!members.empty()) *own.add_feature_configs() = std::move(sequence);
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
