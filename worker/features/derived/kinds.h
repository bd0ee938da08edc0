// The derivations, one a kind of feature. `inputs` are as config::InputsOf lists them. Throw ConfigError for a fault of
// the config, DataError for a column whose type the kind cannot read.
#pragma once

#include <memory>
#include <vector>

#include "tzrec/feature.pb.h"
#include "worker/features/derived/derivation.h"

namespace anneal::features {

using Inputs = std::vector<InputColumn>;

std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::ComboFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::CombineFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::LookupFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::MatchFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::BoolMaskFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::ExprFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::OverlapFeature& config, const Feature& feature,
                                           Inputs inputs);
std::unique_ptr<Derivation> MakeDerivation(const tzrec::protos::KvDotProduct& config, const Feature& feature,
                                           Inputs inputs);

/// Whether a feature of that kind has a derivation; id_feature and raw_feature read their column as it is.
template <typename Kind>
concept Derived = requires(const Kind& config, const Feature& feature, Inputs inputs) {
  MakeDerivation(config, feature, inputs);
};

}  // namespace anneal::features
