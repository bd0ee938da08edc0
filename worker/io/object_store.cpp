#include "worker/io/object_store.h"

#include "worker/config/error.h"

namespace anneal::io {

std::unique_ptr<ObjectStore> OpenStore(const std::string& uri, const S3Settings& s3) {
  if (uri.starts_with("file:///")) return OpenFolder(uri.substr(7));
  if (uri.starts_with("s3://")) return OpenS3(uri, s3);
  throw ConfigError("--publish_uri '" + uri + "': file:///folder or s3://bucket/prefix is wanted");
}

}  // namespace anneal::io
