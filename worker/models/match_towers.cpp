#include "worker/models/match_towers.h"

#include <algorithm>
#include <set>

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

std::string TextOf(const Message& message, const char* field) {
  const auto* descriptor = message.GetDescriptor()->FindFieldByName(field);
  return descriptor && !descriptor->is_repeated() ? message.GetReflection()->GetString(message, descriptor) : "";
}

/// Keeps the features that are wanted, and wants what they are made from ("feature:<name>").
class Keeper {
 public:
  explicit Keeper(std::set<std::string> wanted) : wanted_(std::move(wanted)) {}

  bool Keeps(const std::string& prefix, const Message* feature) {
    if (!feature || !wanted_.count(prefix + TextOf(*feature, "feature_name"))) return false;
    const std::string expression = TextOf(*feature, "expression");
    if (expression.starts_with("feature:")) wanted_.insert(expression.substr(8));
    return true;
  }

  void Prune(tzrec::protos::EasyRecConfig& config) {
    for (size_t known = 0; known != wanted_.size();) {
      known = wanted_.size();
      kept_.clear_feature_configs();
      for (const auto& feature : config.feature_configs()) Add(feature);
    }
    config.mutable_feature_configs()->Swap(kept_.mutable_feature_configs());
  }

 private:
  void Add(const tzrec::protos::FeatureConfig& feature) {
    if (!feature.has_sequence_feature()) {
      if (Keeps("", MemberOf(feature))) *kept_.add_feature_configs() = feature;
      return;
    }
    tzrec::protos::FeatureConfig sequence = feature;
    auto& members = *sequence.mutable_sequence_feature()->mutable_features();
    members.Clear();
    for (const auto& member : feature.sequence_feature().features()) {
      if (Keeps(feature.sequence_feature().sequence_name() + "__", MemberOf(member))) *members.Add() = member;
    }
    if (!members.empty()) *kept_.add_feature_configs() = std::move(sequence);
  }

  std::set<std::string> wanted_;
  tzrec::protos::EasyRecConfig kept_;
};

}  // namespace

tzrec::protos::EasyRecConfig TowerConfig(const tzrec::protos::EasyRecConfig& config, const MatchTower& tower) {
  std::set<std::string> wanted;
  for (const auto& group : config.model_config().feature_groups()) {
    if (!FindTower({tower}, group.group_name())) continue;
    wanted.insert(group.feature_names().begin(), group.feature_names().end());
    for (const auto& nested : group.sequence_groups())
      wanted.insert(nested.feature_names().begin(), nested.feature_names().end());
  }
  tzrec::protos::EasyRecConfig own = config;
  Keeper(std::move(wanted)).Prune(own);
  return own;
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
