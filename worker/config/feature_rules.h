// Rules of what features read, from columns and from each other, and of the fields that only their kind has
// (parity/features.md 1, 2, 4.8-4.16). What kinds share (names, tables, bucketisers) is judged in validate.cpp.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "worker/config/feature_kinds.h"
#include "worker/config/model_rules.h"

namespace anneal::config {

/// Calls `fail` for every fault.
void CheckFeatures(const std::vector<FeatureEntry>& entries, const tzrec::protos::DataConfig& data, const Report& fail);

/// The key of every tensor made from the feature: its own name, in a group after "<sequence_name>__".
std::string FullName(const std::string& feature_name, const FeatureEntry& entry);

/// Names of features, each with those that it reads.
using FeatureGraph = std::map<std::string, std::vector<std::string>>;

/// A circle of features that read each other, on which `name` is: "a -> b -> a"; empty when it is on none. Names that
/// are no features are passed over.
std::string Circle(const FeatureGraph& graph, const std::string& name);

}  // namespace anneal::config
