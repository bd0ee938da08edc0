// The messages that features are made from, as they count where they stand in feature_configs.
#pragma once

#include "tzrec/pipeline.pb.h"
#include "worker/config/feature_kinds.h"
#include "worker/features/feature_set.h"

namespace anneal::features {

/// An id_feature or raw_feature as it counts in a sequence (parity/features.md 1, 4.1): an id has one value unless
/// value_dim says otherwise, and "0" stands for an empty default.
tzrec::protos::IdFeature InSequence(tzrec::protos::IdFeature config);
tzrec::protos::RawFeature InSequence(tzrec::protos::RawFeature config);

/// `encoding` as it counts where `feature` stands, and under the feature's full name.
config::Encoding AsItCounts(const Feature& feature, config::Encoding encoding);

/// The message that `feature` is made from, of its kind.
const google::protobuf::Message& ConfigOf(const tzrec::protos::EasyRecConfig& config, const Feature& feature);

/// What encodes the feature's value, as it counts.
config::Encoding EncodingOf(const tzrec::protos::EasyRecConfig& config, const Feature& feature);
/// The same of a feature of that Kind.
tzrec::protos::IdFeature IdConfig(const tzrec::protos::EasyRecConfig& config, const Feature& feature);
tzrec::protos::RawFeature RawConfig(const tzrec::protos::EasyRecConfig& config, const Feature& feature);

}  // namespace anneal::features
