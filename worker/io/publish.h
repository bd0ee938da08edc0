// Publishes a folder: a version, then the pointer to it, last. Killed anywhere, the old pointer stays valid and another
// run finishes the work: what it finds with the right SHA-256 is not sent again.
//
//   <root>/versions/<step>-<digest>/                the files
//   <root>/versions/<step>-<digest>/MANIFEST.json   size and SHA-256 of each; written when all of them are there
//   <root>/latest                                   JSON {version, path, sha256 of the manifest}
//
// The digest is that of the files and of what the manifest says about them: the same export is the same version,
// however often it is published.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "worker/io/object_store.h"

namespace anneal::io {

/// Where to.
struct Destination {
  std::string uri;  ///< file:///folder or s3://bucket/prefix
  S3Settings s3;
};

struct Published {
  std::string uri;     ///< of the version
  std::string sha256;  ///< of its MANIFEST.json
  int64_t bytes = 0;   ///< of its files together
  int64_t sent = 0;    ///< of these, not found in the store
};

/// SHA-256 by path below a folder.
using FileHashes = std::map<std::string, std::string>;
/// Of every file in `folder`. Throws DataError for what is neither a file nor a folder, TemporaryError when a file
/// cannot be read, filesystem_error for the folder itself.
FileHashes HashFiles(const std::string& folder);

/// Throws ConfigError when `store` is a folder in `folder`: what is published would be a part of the next version.
void CheckOutside(const std::string& folder, const ObjectStore& store);

/// Publishes `folder` (flat or nested) with `about` as further keys of the manifest; about["step"] is required.
/// Several files travel at once; progress goes to the log. Throws what the store, CheckOutside and HashFiles throw,
/// and, before anything is sent, DataError naming a file that is missing or another than `expected` says; also when the
/// folder changes meanwhile.
Published Publish(const std::string& folder, ObjectStore& store, const nlohmann::ordered_json& about,
                  const FileHashes& expected = {});

}  // namespace anneal::io
