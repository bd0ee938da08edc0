// Which rows of a batch have the same ids, and so the same embeddings: what linear layers need not compute again.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/models/embedding_group.h"
#include "worker/nn/repeated_rows.h"

namespace anneal::models {

struct RepeatedIds {
  struct OfFeature {
    std::vector<int32_t> of_row;  ///< [B] number of the row's ids, in the order in which they appear
    std::vector<int32_t> holder;  ///< by number, the first row that has them
  };
  std::vector<OfFeature> features;  ///< by index in FeatureSet::sparse(); empty for one that no bag table looks up
};

/// Of the group's tensor, in the columns of features that it pays for; of no column when those are less than half.
nn::RepeatedRows RepeatedRowsOf(const EmbeddingPlan& plan, const Group& group, const RepeatedIds& ids);

}  // namespace anneal::models
