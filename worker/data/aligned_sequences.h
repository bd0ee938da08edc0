// Sequences whose elements belong together: what a generative ranker reads side by side (parity/models.md 14.1).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/features/feature_set.h"

namespace anneal::data {

/// A sequence feature of a batch.
struct SequenceColumn {
  std::string feature;
  bool sparse = true;
  int index = 0;  ///< in FeatureSet::sparse() or dense_sequences()
};

/// Features with as many elements as each other in every row; labels as well where they are lists.
struct AlignedSequences {
  std::vector<SequenceColumn> features;
  bool labels = false;  ///< label columns hold a list of one value an element
};

/// Of the model's JAGGED_SEQUENCE groups: features of one group belong together, and of a ranker those of the groups
/// uih, uih_action, uih_watchtime, uih_timestamp (or of the channels' names), and those of candidate,
/// candidate_timestamp with the labels. Names that are no features are left out.
std::vector<AlignedSequences> AlignedSequencesOf(const tzrec::protos::EasyRecConfig& config,
                                                 const features::FeatureSet& features);

/// Throws DataError naming file, row, both columns and their lengths. `labels`: the names of batch.labels.
void CheckAligned(const AlignedSequences& aligned, std::span<const RowSlice> slices,
                  const std::vector<std::string>& labels, const Batch& batch);

}  // namespace anneal::data
