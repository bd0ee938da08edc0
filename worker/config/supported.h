// What Anneal supports of the schema. Later work edits the tables of supported.cpp by a line.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "worker/config/source_map.h"

namespace anneal::config {

/// Walks every field that is set and reports what no part of Anneal supports yet, by its path:
/// "model_config.mind: not supported yet".
void CheckSupported(const google::protobuf::Message& message, const std::string& path, const SourceMap& sources,
                    std::vector<Fault>& faults);

}  // namespace anneal::config
