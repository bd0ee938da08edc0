// Protobuf text format as the Python parser takes it (parity/protos.md), with all faults of a text reported at once.
//
// Beyond the C++ library's parser: t/f/True/False/1/0 for booleans, a singular field may be repeated and a oneof set
// twice (the last one wins), list shorthand for messages and map entries, and required fields are not enforced.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "worker/config/source_map.h"

namespace anneal::config {

/// Merges `text` into `message`. Faults are appended to `faults`; what could be read is in the message all the same.
/// `prefix` is put before every path. Nested at most 100 deep.
void ParseTextFormat(const std::string& text, google::protobuf::Message& message, SourceMap& sources,
                     std::vector<Fault>& faults, const std::string& prefix = "");

}  // namespace anneal::config
