// What a model needs of its own settings, of the feature groups and of the label columns (parity/models.md 4, 9, 10).
#pragma once

#include <functional>
#include <string>

#include "tzrec/pipeline.pb.h"

namespace anneal::config {

/// Told the path of a field and what is wrong with it.
using Report = std::function<void(const std::string& path, const std::string& message)>;

/// Calls `fail` for every fault of model_config's model; of a model that is not supported, for none.
/// `sparse_fault`: why a name is no sparse feature; empty when it is one.
void CheckModel(const tzrec::protos::EasyRecConfig& config, const Report& fail,
                const std::function<std::string(const std::string&)>& sparse_fault);

void CheckMlp(const tzrec::protos::MLP& mlp, const std::string& path, const Report& fail);

}  // namespace anneal::config
