// data_config's negative samplers (parity/data.md 5), four messages with the same things in them, as one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tzrec/data.pb.h"
#include "worker/config/model_rules.h"

namespace anneal::config {

/// A table of a sampler.
struct SamplerTable {
  std::string field;  ///< "data_config.negative_sampler.input_path"
  std::string path;
};

struct SamplerSettings {
  std::string field;  ///< "data_config.negative_sampler"
  SamplerTable items;
  std::optional<SamplerTable> users, positive_edges, hard_edges;  ///< those that the kind reads
  uint32_t num_sample = 0;                                        ///< negatives of a batch in training
  std::optional<uint32_t> num_eval_sample;                        ///< in evaluation, where it is set
  uint32_t num_hard_sample = 0;                                   ///< most hard negatives of a row; 0: none are read
  std::vector<std::string> attr_fields;                           ///< columns of the attributes, in their order
  std::string item_id_field;
  std::string user_id_field;  ///< empty for negative_sampler, which asks for no users
  std::string attr_delimiter, field_delimiter;
  std::string item_id_delimiter;  ///< between several ids in one text of item_id_field; empty: there is one

  /// Negatives of a batch, without the hard ones.
  uint32_t Count(bool training) const { return training ? num_sample : num_eval_sample.value_or(num_sample); }
  std::vector<SamplerTable> Tables() const;
};

/// Of the negative sampler that is set; nothing without one, nor for tdm_sampler (tree_sampler_settings.h).
std::optional<SamplerSettings> SamplerOf(const tzrec::protos::DataConfig& config);

/// Calls `fail` for every fault of the negative sampler's fields. Files are not looked at: the operator has none of
/// them.
void CheckSampler(const tzrec::protos::DataConfig& config, const Report& fail);

/// Calls `fail` for every table of the sampler, whichever it is, that is no regular file.
void CheckSamplerFiles(const tzrec::protos::DataConfig& config, const Report& fail);

inline constexpr uint32_t kMostSamples = 1 << 24;  ///< of one number in the config: as of a batch's rows

// What all samplers have. `fail` is called for paths that are missing or of no local file, for attributes that are
// missing or there twice, and for empty delimiters.
void CheckTables(const std::vector<SamplerTable>& tables, const Report& fail);
void CheckAttributes(const std::string& field, const std::vector<std::string>& attr_fields,
                     const std::string& attr_delimiter, const std::string& field_delimiter, const Report& fail);

}  // namespace anneal::config
