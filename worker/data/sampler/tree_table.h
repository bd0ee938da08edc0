// The tree of items that a TDM is trained on (parity/data.md 8).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/config/tree_sampler_settings.h"
#include "worker/data/sampler/alias_table.h"
#include "worker/data/sampler/node_table.h"

namespace anneal::data {

/// Nodes with their levels, 0 for the root and the last one for the leaves, and the ancestors of every leaf. Nodes of
/// level -1, which stand for nothing, belong to no level.
class TreeTable {
 public:
  struct Level {
    std::vector<int32_t> nodes;  ///< rows of the node table that weigh more than 0
    std::vector<float> weights;  ///< of them
    AliasTable alias;            ///< draws one of them; of no use where there are none
  };

  /// Attributes get the types of the columns of `input`. Throws DataError naming file and row: of what TableFile and
  /// NodeTable refuse, of levels that are none or more than settings.layer_num_sample has, of edges that are not from a
  /// leaf to a node between it and the root (in the table of children: from a node to one of the level below), of two
  /// ancestors in a level; naming the file of a leaf that lacks an ancestor, and of a level that is empty or has too
  /// few nodes to draw from.
  TreeTable(const config::TreeSamplerSettings& settings, AttributeColumns& attributes);

  const NodeTable& nodes() const { return nodes_; }
  int64_t levels() const { return static_cast<int64_t>(levels_.size()); }
  const Level& level(int64_t level) const { return levels_[level]; }

  /// The leaf's row in the node table; -1 for what is no leaf.
  int64_t FindLeaf(int64_t id) const;
  /// Rows of the leaf's ancestors of level 1 to levels() - 2, in this order.
  std::span<const int32_t> AncestorsOf(int64_t leaf) const;

 private:
  void ReadLevels(const config::TreeSamplerSettings& settings);
  void ReadAncestors(const config::TreeSamplerSettings& settings);
  void CheckChildren(const config::TreeSamplerSettings& settings) const;

  NodeTable nodes_;
  std::vector<int32_t> level_of_;  ///< by row
  std::vector<Level> levels_;
  std::vector<int32_t> leaf_number_;  ///< by row; -1 of what is no leaf
  std::vector<int32_t> ancestors_;    ///< by leaf number, levels() - 2 each
};

}  // namespace anneal::data
