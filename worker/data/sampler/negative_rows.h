// Sampled items become rows of the batch, behind its own.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "worker/config/sampler_settings.h"
#include "worker/data/sampler/id_column.h"
#include "worker/data/sampler/item_features.h"
#include "worker/data/sampler/negative_sampler.h"
#include "worker/data/sampler/sampled_rows.h"

namespace anneal::data {

/// Puts the rows of `items` behind those of `batch`, which has no negatives yet: both hold the same features, and
/// `items` neither labels nor sample weights nor reserved columns.
void AppendNegatives(Batch& batch, const Batch& items, std::vector<std::pair<int32_t, int32_t>> hard_negatives);

/// Draws a batch's negatives and appends them.
class NegativeRows : public SampledRows {
 public:
  /// `config` has a negative sampler that is supported; otherwise as SampledRows::Make.
  NegativeRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
               const arrow::Schema& input, bool training, const SamplingRequest& request);

  void Append(std::span<const RowSlice> slices, int worker, int64_t pass, int64_t number, Batch* batch) const override;

 private:
  NegativeRows(const config::SamplerSettings& settings, const tzrec::protos::EasyRecConfig& config,
               const features::FeatureSet& features, const arrow::Schema& input, bool training,
               const SamplingRequest& request);

  SamplingRequest request_;
  std::shared_ptr<const NegativeSampler> sampler_;
  IdColumn item_ids_;
  std::optional<IdColumn> user_ids_;
  ItemFeatures features_;
};

}  // namespace anneal::data
