// A batch as the input dictionary of an exported model (parity/features.md 9).
#pragma once

#include <ATen/core/Dict.h>
#include <ATen/core/Tensor.h>

#include <string>

#include "worker/data/batch.h"
#include "worker/features/feature_set.h"

namespace anneal::exporting {

/// "<feature>.values" and ".lengths" int64 (and ".weights" float32 where the set is weighted) of sparse features,
/// "<feature>.values" [rows, value_dim] float32 of dense ones, "<feature>.values" [elements, value_dim] float32 and
/// ".lengths" int32 of dense sequences. Shares the batch's memory where it can.
c10::Dict<std::string, at::Tensor> FeatureDictionary(const data::Batch& batch, const features::FeatureSet& features);

}  // namespace anneal::exporting
