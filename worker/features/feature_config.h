// The messages that features are made from, as they count where they stand in feature_configs.
#pragma once

#include <utility>

#include "tzrec/pipeline.pb.h"
#include "worker/features/feature_set.h"

namespace anneal::features {

/// `config` as it counts in a sequence (parity/features.md 1, 4.1): an id has one value unless value_dim says
/// otherwise, and "0" stands for an empty default.
tzrec::protos::IdFeature InSequence(tzrec::protos::IdFeature config);
tzrec::protos::RawFeature InSequence(tzrec::protos::RawFeature config);

/// `config`, which `feature` is made from, as it counts where it stands, and under the feature's full name.
template <typename Config>
Config AsItCounts(const Feature& feature, Config config) {
  if (feature.sequence) config = InSequence(std::move(config));
  config.set_feature_name(feature.name);
  return config;
}

/// The message that `feature`, of that kind and made from `config`, stands for: as it counts in its sequence, and under
/// its full name.
tzrec::protos::IdFeature IdConfig(const tzrec::protos::EasyRecConfig& config, const Feature& feature);
tzrec::protos::RawFeature RawConfig(const tzrec::protos::EasyRecConfig& config, const Feature& feature);

}  // namespace anneal::features
