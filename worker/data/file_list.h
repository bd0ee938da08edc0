// From an input path of the command line to files.
#pragma once

#include <string>
#include <vector>

namespace anneal::data {

/// `input_path` is a comma list of globs. Files of one glob come sorted by name (the reference takes the directory's
/// order, which differs between machines); globs come in the order written. Throws ConfigError for a glob without a
/// file and for a path that is not local ("s3://...").
std::vector<std::string> ListFiles(const std::string& input_path);

}  // namespace anneal::data
