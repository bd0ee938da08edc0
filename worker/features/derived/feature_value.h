// The value of a feature for others that read it as `feature:name`.
#pragma once

#include <memory>

#include "worker/config/feature_kinds.h"
#include "worker/features/derived/derivation.h"

namespace anneal::features {

/// What `feature` makes of `input` (its column, or what is derived for it) before buckets and vocabularies: texts of an
/// id_feature, normalized numbers of a raw_feature, the default where the input is missing (parity/features.md 4.1).
/// `encoding` as it counts in its sequence. Throws ConfigError and DataError like MakeDerivation.
std::unique_ptr<Derivation> MakeFeatureValue(const config::Encoding& encoding, const Feature& feature,
                                             InputColumn input);

}  // namespace anneal::features
