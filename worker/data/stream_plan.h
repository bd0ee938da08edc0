// What a stream has to read, decided from config and options alone.
#pragma once

#include "worker/data/batch_assembler.h"
#include "worker/data/batch_stream.h"
#include "worker/data/dataset.h"

namespace anneal::data {

struct StreamPlan {
  DatasetOptions dataset;
  int64_t batch_size = 0;
  bool drop_remainder = false;
  size_t shuffle_batches = 0;  ///< 0: no shuffling
  bool samples = false;        ///< a sampler's rows are appended to every batch
  BatchColumns columns;        ///< reserved is resolved by ResolveReserved
};

/// parity/data.md 1 (columns) and 3 (items 2, 4-6). Throws ConfigError for options that contradict each other or are
/// not supported yet.
StreamPlan PlanStream(const tzrec::protos::DataConfig& config, const features::FeatureSet& features,
                      const StreamOptions& options);

/// The reserved columns by name: ALL_COLUMNS and ALL_EFFECTIVE_COLUMNS stand for everything that is read.
std::vector<std::string> ResolveReserved(const std::vector<std::string>& reserved, const arrow::Schema& read);

}  // namespace anneal::data
