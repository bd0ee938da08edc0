// Sampled items become rows of the batch, behind its own.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/data/sampler/negative_sampler.h"
#include "worker/features/feature_program.h"

namespace anneal::data {

/// Puts the rows of `items` behind those of `batch`, which has no negatives yet: both hold the same features, and
/// `items` neither labels nor sample weights nor reserved columns.
void AppendNegatives(Batch& batch, const Batch& items, std::vector<std::pair<int32_t, int32_t>> hard_negatives);

/// A column of ids, as SamplingRequest has them. A null is 0, as in the reference; of a text the empty one.
class IdColumn {
 public:
  /// The column of `schema`, int32, int64 or string; with a `delimiter` a text may hold several ids. Throws DataError.
  IdColumn(const std::string& name, std::string delimiter, const arrow::Schema& schema);

  /// The ids of all rows in order. Throws DataError naming file, row, column and text of what is no id.
  std::vector<int64_t> Read(std::span<const RowSlice> slices) const;

 private:
  std::string name_, delimiter_;
  int index_;
  bool text_ids_;
};

/// Draws a batch's negatives and appends them. Compiled once, shared by all reader threads.
class NegativeRows {
 public:
  /// `config` has a sampler that is supported; `input` is the schema of the rows to come. `request` holds what all
  /// batches have in common: seed and rank. Throws ConfigError and DataError.
  NegativeRows(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
               const arrow::Schema& input, bool training, const SamplingRequest& request);

  /// `batch` holds the rows of `slices`; the other numbers say which batch that is (SamplingRequest). Throws DataError.
  void Append(std::span<const RowSlice> slices, int worker, int64_t pass, int64_t number, Batch* batch) const;

 private:
  void RunFeatures(const std::vector<int64_t>& items, Batch* out) const;

  SamplingRequest request_;
  std::shared_ptr<const NegativeSampler> sampler_;
  IdColumn item_ids_;
  std::optional<IdColumn> user_ids_;
  features::FeatureProgram program_;  ///< of the item side alone
};

}  // namespace anneal::data
