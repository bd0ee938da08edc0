// A batch of users with items becomes one of users with nodes of the tree (parity/data.md 8).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/config/tree_sampler_settings.h"
#include "worker/data/sampler/id_column.h"
#include "worker/data/sampler/item_features.h"
#include "worker/data/sampler/sampled_rows.h"
#include "worker/data/sampler/tree_sampler.h"

namespace anneal::data {

/// Appends a row for each ancestor, whose labels are 1, and for each negative node, whose labels are 0: features with
/// an input among attr_fields are the node's, all others and the sample weights those of the row that the node was
/// drawn for. Labels become integers.
class TreeRows : public SampledRows {
 public:
  /// `config` has a tdm_sampler; otherwise as SampledRows::Make.
  TreeRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features, const arrow::Schema& input,
           const SamplingRequest& request);

  /// Throws DataError also for an item that is no leaf of the tree and for a label that is no integer.
  void Append(std::span<const RowSlice> slices, int worker, int64_t pass, int64_t number, Batch* batch) const override;

 private:
  TreeRows(const config::TreeSamplerSettings& settings, const tzrec::protos::EasyRecConfig& config,
           const features::FeatureSet& features, const arrow::Schema& input, const SamplingRequest& request);

  TreeNodes Draw(std::span<const RowSlice> slices, const SamplingRequest& request) const;

  struct DenseColumns {
    int64_t column = 0, width = 0;
  };

  SamplingRequest request_;
  std::string nodes_path_;
  std::vector<std::string> labels_;
  std::shared_ptr<const TreeSampler> sampler_;
  IdColumn item_ids_;
  ItemFeatures features_;
  std::vector<bool> sparse_, dense_sequences_;  ///< of the set's features: whether nodes have it
  std::vector<DenseColumns> dense_;             ///< that nodes have
};

}  // namespace anneal::data
