// Which features a sampled item has (parity/features.md 7).
#pragma once

#include <string>
#include <vector>

#include "worker/features/feature_set.h"

namespace anneal::features {

/// Whether a negative sampler with these attr_fields gives the feature a value: any of its inputs is among them (data
/// group __NEG__). The others are the rows' alone (__BASE__): in a batch with negatives, a negative has no ids, no
/// elements and zeros there.
bool IsSampled(const Feature& feature, const std::vector<std::string>& attr_fields);

}  // namespace anneal::features
