// What a model needs of its own settings, of the feature groups and of the label columns (parity/models.md 4, 9, 10).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tzrec/pipeline.pb.h"

namespace anneal::config {

/// Told the path of a field and what is wrong with it.
using Report = std::function<void(const std::string& path, const std::string& message)>;

/// What the rules ask of features, by their names.
struct KnownFeatures {
  std::function<std::string(const std::string&)> sparse_fault;  ///< why it is no sparse feature; empty when it is one
  std::function<int64_t(const std::string&)> width;             ///< columns in a DEEP group; 0 when that is not known
  std::function<bool(const std::string&)> single;               ///< whether it is one that is no sequence
};

/// Calls `fail` for every fault of model_config's model; of a model that is not supported, for none.
void CheckModel(const tzrec::protos::EasyRecConfig& config, const Report& fail, const KnownFeatures& features);

void CheckMlp(const tzrec::protos::MLP& mlp, const std::string& path, const Report& fail);

}  // namespace anneal::config
