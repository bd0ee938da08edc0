// data_config.tdm_sampler (parity/data.md 8).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/config/sampler_settings.h"

namespace anneal::config {

/// The attribute that says how far a node is from the root.
inline constexpr const char* kTreeLevel = "tree_level";

struct TreeSamplerSettings {
  std::string field;  ///< "data_config.tdm_sampler"
  SamplerTable nodes;
  SamplerTable ancestors;                ///< edges from a leaf to the nodes between it and the root
  SamplerTable children;                 ///< edges from a node to those below it, what retrieval goes along
  std::vector<std::string> attr_fields;  ///< columns of the attributes; kTreeLevel and the item id are among them
  std::string item_id_field;
  std::string attr_delimiter, field_delimiter;
  std::vector<uint32_t> layer_num_sample;  ///< negatives of a row per level, the root's first
  double remain_ratio = 1;                 ///< of the levels between root and leaves, how many a batch has
  std::string probability_type;            ///< by which they are chosen

  int64_t levels() const { return static_cast<int64_t>(layer_num_sample.size()); }
  /// Levels between root and leaves that a batch has.
  int64_t RemainingLevels() const;
  std::vector<SamplerTable> Tables() const { return {nodes, ancestors, children}; }
};

/// Of tdm_sampler; nothing without one.
std::optional<TreeSamplerSettings> TreeSamplerOf(const tzrec::protos::DataConfig& config);

/// Calls `fail` for every fault of tdm_sampler's fields. Files are not looked at.
void CheckTreeSampler(const tzrec::protos::DataConfig& config, const Report& fail);

}  // namespace anneal::config
