// Which rows of a batch have the same ids.
#pragma once

#include <memory>

#include "worker/data/batch.h"
#include "worker/models/embedding_group.h"
#include "worker/models/repeated_ids.h"

namespace anneal::embedding {

/// Null where nn::Arithmetic has no use for it, or ids carry weights. Rows without an id are alike; rows of several ids
/// are taken as different from any other.
std::shared_ptr<const models::RepeatedIds> NumberIds(const models::EmbeddingPlan& plan, const data::Batch& batch);

}  // namespace anneal::embedding
