// The features of a sampler's items.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/features/feature_program.h"

namespace anneal::data {

/// Compiled once, shared by all reader threads.
class ItemFeatures {
 public:
  /// `attributes`: a row per item. Features with an input among `attr_fields` are made from it, the others have no ids,
  /// no elements and zeros. Throws ConfigError and DataError.
  ItemFeatures(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
               const RowSlice& attributes, const std::vector<std::string>& attr_fields);

  /// Fills the features of those rows of the attributes into `out`. Throws DataError naming the table's row.
  void Run(const std::vector<int64_t>& items, Batch* out) const;

 private:
  RowSlice attributes_;
  features::FeatureProgram program_;
};

}  // namespace anneal::data
