// An S3 bucket as object store, through Arrow's S3 file system: multi-part uploads whose parts travel side by side.
#include <arrow/buffer.h>
#include <arrow/filesystem/s3fs.h>
#include <arrow/io/interfaces.h>
#include <arrow/result.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <utility>
#include <vector>

#include "worker/config/error.h"
#include "worker/io/object_store.h"

namespace anneal::io {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPiece = 8 << 20;      // what is read from disk at once
constexpr int64_t kInFlight = 64 << 20;  // bytes of one file that may wait for the network
constexpr int64_t kMaxAttempts = 8;      // of one request
constexpr double kConnectSeconds = 10, kStallSeconds = 60;

std::string FirstEnv(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* value = std::getenv(name);
    if (value && *value) return value;
  }
  return "";
}

/// The SDK inside Arrow was built for another distribution's certificate paths.
std::string CaFile() {
  const std::string named = FirstEnv({"AWS_CA_BUNDLE", "SSL_CERT_FILE"});
  if (!named.empty()) return named;
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"}) {
    if (fs::exists(path)) return path;
  }
  return "";
}

/// Tries again after 0.1 s, 0.2 s, ... at most 5 s: a broken store is reported after about 12 s.
class Retries : public arrow::fs::S3RetryStrategy {
 public:
  bool ShouldRetry(const AWSErrorDetail& error, int64_t attempts) override {
    return error.should_retry && attempts + 1 < kMaxAttempts;
  }
  int64_t CalculateDelayBeforeNextRetry(const AWSErrorDetail&, int64_t attempts) override {
    return std::min<int64_t>(int64_t{100} << std::min<int64_t>(attempts, 10), 5000);
  }
};

/// Arrow's S3 client starts once in a process and has to be ended before the process does. A handler of std::atexit
/// would come too late: some of the client's own statics are gone by then.
class Client {
 public:
  Client() {
    if (arrow::fs::IsS3Finalized()) throw Error(ExitCode::kInternal, "a process opens one S3 store only");
    arrow::fs::S3GlobalOptions options;
    options.log_level = arrow::fs::S3LogLevel::Off;  // its log may hold headers
    options.install_sigpipe_handler = true;
    if (const auto status = arrow::fs::InitializeS3(options); !status.ok()) {
      throw TemporaryError("cannot start the S3 client: " + status.message());
    }
  }
  ~Client() { (void)arrow::fs::FinalizeS3(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
};

class S3Store : public ObjectStore {
 public:
  S3Store(std::string bucket, std::string prefix, const S3Settings& settings)
      : bucket_(std::move(bucket)), prefix_(std::move(prefix)) {
    options_ = arrow::fs::S3Options::Defaults();
    options_.region = settings.region.empty() ? FirstEnv({"AWS_REGION", "AWS_DEFAULT_REGION"}) : settings.region;
    if (options_.region.empty()) options_.region = "us-east-1";
    SetEndpoint(settings.endpoint);
    options_.retry_strategy = std::make_shared<Retries>();
    options_.connect_timeout = kConnectSeconds;
    options_.request_timeout = kStallSeconds;
    options_.allow_delayed_open = true;  // small objects travel in one request
    options_.tls_ca_file_path = CaFile();
    if (options_.GetAccessKey().empty()) {
      throw ConfigError("there are no credentials for " + Uri("") +
                        ": set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE to a file "
                        "that holds them");
    }
    auto made = arrow::fs::S3FileSystem::Make(options_);
    if (!made.ok()) Fail("cannot open", "", made.status());
    files_ = *made;
  }

  std::string Uri(const std::string& path) const override {
    return "s3://" + bucket_ + (prefix_.empty() ? "" : "/" + prefix_) + (path.empty() ? "" : "/" + path);
  }

  std::optional<int64_t> Size(const std::string& path) override {
    const auto info = files_->GetFileInfo(Key(path));
    if (!info.ok()) Fail("cannot look for", path, info.status());
    if (info->type() != arrow::fs::FileType::File) return std::nullopt;
    return info->size();
  }

  void Read(const std::string& path, const std::function<void(std::string_view)>& piece) override {
    const auto stream = files_->OpenInputStream(Key(path));
    if (!stream.ok()) Fail("cannot read", path, stream.status());
    for (;;) {
      const auto buffer = (*stream)->Read(kPiece);
      if (!buffer.ok()) Fail("cannot read", path, buffer.status());
      if ((*buffer)->size() == 0) return;
      piece({reinterpret_cast<const char*>((*buffer)->data()), static_cast<size_t>((*buffer)->size())});
    }
  }

  void Put(const std::string& path, const std::string& file, const std::function<void(int64_t)>& sent) override {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw TemporaryError("cannot read " + file);
    int64_t waiting = 0;
    Upload(path, [&](arrow::io::OutputStream& out) -> arrow::Status {
      std::vector<char> buffer(kPiece);
      while (in.read(buffer.data(), kPiece) || in.gcount() > 0) {
        ARROW_RETURN_NOT_OK(out.Write(buffer.data(), in.gcount()));
        waiting += in.gcount();
        // Arrow queues parts without a bound: a disk that is faster than the network would fill the memory.
        if (waiting >= kInFlight) {
          ARROW_RETURN_NOT_OK(out.Flush());
          sent(std::exchange(waiting, 0));
        }
      }
      return in.eof() ? arrow::Status::OK() : arrow::Status::IOError("cannot read " + file);
    });
    sent(waiting);
  }

  void PutText(const std::string& path, const std::string& text) override {
    Upload(path,
           [&](arrow::io::OutputStream& out) { return out.Write(text.data(), static_cast<int64_t>(text.size())); });
  }

 private:
  void SetEndpoint(std::string endpoint) {
    if (endpoint.empty()) endpoint = FirstEnv({"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"});
    if (endpoint.empty()) return;
    const size_t colon = endpoint.find("://");
    const std::string scheme = endpoint.substr(0, colon);
    if (colon == std::string::npos || (scheme != "http" && scheme != "https") ||
        endpoint.find('@') != std::string::npos) {
      throw ConfigError("the S3 endpoint has to be http://host[:port] or https://host[:port], without credentials");
    }
    options_.scheme = scheme;
    options_.endpoint_override = endpoint.substr(colon + 3);
    while (options_.endpoint_override.ends_with('/')) options_.endpoint_override.pop_back();
  }

  std::string Key(const std::string& path) const {
    return bucket_ + "/" + (prefix_.empty() ? "" : prefix_ + "/") + path;
  }

  template <typename Write>
  void Upload(const std::string& path, Write write) {
    const auto stream = files_->OpenOutputStream(Key(path), nullptr);
    if (!stream.ok()) Fail("cannot write", path, stream.status());
    arrow::Status status = write(**stream);
    if (status.ok()) status = (*stream)->Close();
    if (status.ok()) return;
    (void)(*stream)->Abort();
    Fail("cannot write", path, status);
  }

  [[noreturn]] void Fail(const char* what, const std::string& path, const arrow::Status& status) const {
    std::string text = status.message();
    for (const std::string& secret : {options_.GetSecretKey(), options_.GetSessionToken(), options_.GetAccessKey()}) {
      for (size_t at; !secret.empty() && (at = text.find(secret)) != std::string::npos;) {
        text.replace(at, secret.size(), "***");
      }
    }
    const std::string message = std::string(what) + " " + Uri(path);
    const auto says = [&text](std::initializer_list<const char*> words) {
      return std::any_of(words.begin(), words.end(),
                         [&text](const char* word) { return text.find(word) != std::string::npos; });
    };
    if (says({"ACCESS_DENIED", "HTTP status 401", "HTTP status 403", "INVALID_ACCESS_KEY_ID", "InvalidAccessKeyId",
              "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "EXPIRED_TOKEN", "ExpiredToken"})) {
      throw ConfigError(
          message +
          ": the store refuses these credentials, or they lack a permission (s3:ListBucket, s3:GetObject, "
          "s3:PutObject, s3:AbortMultipartUpload): " +
          text);
    }
    if (says({"NO_SUCH_BUCKET", "NoSuchBucket"})) throw ConfigError(message + ": there is no such bucket: " + text);
    throw TemporaryError(message + ": " + text);
  }

  const Client client_;  // first: it outlives what it serves
  std::string bucket_, prefix_;
  arrow::fs::S3Options options_;
  std::shared_ptr<arrow::fs::S3FileSystem> files_;
};

}  // namespace

std::unique_ptr<ObjectStore> OpenS3(const std::string& uri, const S3Settings& settings) {
  std::string rest = uri.substr(std::string("s3://").size());
  // The text is not repeated: somebody may have put a secret into it.
  if (rest.find_first_of("@?#") != std::string::npos) {
    throw ConfigError("an S3 URI is s3://bucket/prefix: endpoint, region and credentials do not belong into it");
  }
  while (rest.ends_with('/')) rest.pop_back();
  const size_t slash = rest.find('/');
  const std::string bucket = rest.substr(0, slash);
  if (bucket.empty()) throw ConfigError("'" + uri + "' names no bucket");
  return std::make_unique<S3Store>(bucket, slash == std::string::npos ? "" : rest.substr(slash + 1), settings);
}

}  // namespace anneal::io
