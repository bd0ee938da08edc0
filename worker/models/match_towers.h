// The parts of models that are exported by themselves: the towers of match models, and which feature groups each reads
// (parity/models.md 11), and the items of a TDM (12).
#pragma once

#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"

namespace anneal::models {

struct MatchTower {
  std::string name;                 ///< "user_tower" or "item_tower": its module
  std::vector<std::string> groups;  ///< the feature groups that it reads
  bool shares_embeddings = false;   ///< with the other tower; otherwise its tables are its own
};

/// User tower and item tower; none of a model that is no match model.
std::vector<MatchTower> MatchTowersOf(const tzrec::protos::ModelConfig& model);

/// The config of one tower alone: of its features those that the tower's groups are made from.
tzrec::protos::EasyRecConfig TowerConfig(const tzrec::protos::EasyRecConfig& config, const MatchTower& tower);

/// Feature groups that no tower of a match model reads, by name; none of other models.
std::vector<std::string> UnreadGroups(const tzrec::protos::ModelConfig& model);

/// ModelInput::tower of what a TDM's items are known by: the query side of its SEQUENCE group.
inline constexpr char kItemEmbedding[] = "embedding";

/// The config of that part alone: of the features those of the SEQUENCE group that are no sequences.
tzrec::protos::EasyRecConfig ItemEmbeddingConfig(const tzrec::protos::EasyRecConfig& config);

/// The tower that reads the group; null when there is none.
const MatchTower* FindTower(const std::vector<MatchTower>& towers, const std::string& group);

}  // namespace anneal::models
