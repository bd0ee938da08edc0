// What the sampler of data_config adds to the batches of training and evaluation (parity/data.md 5, 8).
#pragma once

#include <arrow/type_fwd.h>

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/data/sampler/sampling_request.h"
#include "worker/features/feature_set.h"

namespace anneal::data {

/// Where a sampler's warnings go: into the log, of rank 0 alone.
std::function<void(const std::string&)> WarningsOf(int rank);

/// Adds the rows of `more` behind those of `sequence`.
void AppendSequence(DenseSequence& sequence, const DenseSequence& more);

/// Made once, shared by all reader threads.
class SampledRows {
 public:
  /// Of the sampler that `config` has: NegativeRows or TreeRows. `input` is the schema of the rows to come. `request`
  /// holds what all batches have in common: seed and rank. Throws ConfigError and DataError.
  static std::unique_ptr<const SampledRows> Make(const tzrec::protos::EasyRecConfig& config,
                                                 const features::FeatureSet& features, const arrow::Schema& input,
                                                 bool training, const SamplingRequest& request);

  virtual ~SampledRows() = default;

  /// `batch` holds the rows of `slices`; the other numbers say which batch that is (SamplingRequest). Throws DataError.
  virtual void Append(std::span<const RowSlice> slices, int worker, int64_t pass, int64_t number,
                      Batch* batch) const = 0;
};

}  // namespace anneal::data
