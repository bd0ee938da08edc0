// Where artefacts are published: named objects below a root. A folder (file://, also a mounted claim) or a prefix of an
// S3 bucket; the publisher is the same for both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace anneal::io {

/// What an S3 client needs besides the URI. Credentials are the AWS SDK's own: the variables AWS_ACCESS_KEY_ID,
/// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, a file that AWS_SHARED_CREDENTIALS_FILE names, a web identity token, or
/// the machine's role. They never appear in a URI, a log or an error.
struct S3Settings {
  std::string endpoint;  ///< http(s)://host[:port] of an S3-compatible store; default $AWS_ENDPOINT_URL_S3,
                         ///< $AWS_ENDPOINT_URL, AWS itself
  std::string region;    ///< default $AWS_REGION, $AWS_DEFAULT_REGION, us-east-1
};

/// Objects by path below the root ("versions/7-x/fg.json"). An object is there whole or not at all. Thread safe.
/// Every call throws TemporaryError when the storage fails, ConfigError when it refuses (credentials, no such bucket).
class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  virtual std::string Uri(const std::string& path) const = 0;
  /// Bytes of an object; nullopt: there is none.
  virtual std::optional<int64_t> Size(const std::string& path) = 0;
  /// Gives an object's bytes in pieces.
  virtual void Read(const std::string& path, const std::function<void(std::string_view)>& piece) = 0;
  /// Stores a file; `sent` gets the number of bytes of each piece that has arrived.
  virtual void Put(const std::string& path, const std::string& file, const std::function<void(int64_t)>& sent) = 0;
  /// Stores or replaces a small object.
  virtual void PutText(const std::string& path, const std::string& text) = 0;
};

/// `uri`: file:///folder or s3://bucket/prefix. Throws ConfigError for anything else. Touches nothing yet. A process
/// opens one S3 store only (Arrow's client cannot be started again).
std::unique_ptr<ObjectStore> OpenStore(const std::string& uri, const S3Settings& s3);

std::unique_ptr<ObjectStore> OpenFolder(const std::string& folder);
std::unique_ptr<ObjectStore> OpenS3(const std::string& uri, const S3Settings& settings);

}  // namespace anneal::io
