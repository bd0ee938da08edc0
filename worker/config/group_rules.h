// Which features a feature group may have, and who reads its sequences (parity/models.md 2.1, 2.2).
#pragma once

#include <map>
#include <string>

#include "tzrec/model.pb.h"
#include "worker/config/model_rules.h"

namespace anneal::config {

struct FeatureKind {
  bool sparse = false, sequence = false;
  bool embedded = false;  ///< dense, with autodis or mlp
};

/// Calls `fail` for every fault of model_config.feature_groups. `features` by name.
void CheckGroups(const tzrec::protos::ModelConfig& model, const std::map<std::string, FeatureKind>& features,
                 const Report& fail);

}  // namespace anneal::config
