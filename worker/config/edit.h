// --edit_config_json: {path: value} edits of a config (parity/train.md 19).
#pragma once

#include <string>

#include "tzrec/pipeline.pb.h"

namespace anneal::config {

/// Paths: dotted names; `[i]`, `[a:b]`, `[:]` select elements of a list; `[key=value]` with >= <= > < = selects those
/// whose (dotted) sub-field compares so. Path and value may hold several entries separated by `;`. A value is read as
/// the type of the field; lists and messages are replaced by text format. Throws ConfigError naming the path.
void EditConfig(tzrec::protos::EasyRecConfig& config, const std::string& edit_json);

}  // namespace anneal::config
