// Publishes a folder: a versioned copy, then the pointer to it, last. Killed anywhere, the old pointer stays valid and
// another run finishes the work.
//
//   <uri>/versions/<step>-<UTC time>/   the files and MANIFEST.json (size and SHA-256 of each)
//   <uri>/latest                        JSON {version, path, sha256 of the manifest}
#pragma once

#include <cstdint>
#include <string>

namespace anneal::io {

struct Published {
  std::string uri;     ///< of the version
  std::string sha256;  ///< of its MANIFEST.json
  int64_t bytes = 0;   ///< of its files together
};

/// Copies `folder` (flat or nested) to a file:// URI. Throws ConfigError for another scheme, TemporaryError when a copy
/// fails or reads back different.
Published Publish(const std::string& folder, const std::string& uri, int64_t step);

/// Hex SHA-256 of a file. Throws TemporaryError.
std::string FileSha256(const std::string& path);

}  // namespace anneal::io
