// The Kubernetes API as the operator sees it. Two implementations: operator/local/memory_api (embedded, real
// semantics) and, for `serve`, the HTTPS client. Objects are JSON as the API server sends them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace anneal::kube {

using Json = nlohmann::json;

/// A kind of object and where it lives.
struct Resource {
  std::string group;       ///< "" for core
  std::string version;     ///< "v1"
  std::string kind;        ///< "Pod"
  std::string plural;      ///< "pods"
  bool has_status = true;  ///< has a status subresource

  std::string api_version() const { return group.empty() ? version : group + "/" + version; }
  bool operator==(const Resource& other) const { return group == other.group && plural == other.plural; }
};

/// A failed request: HTTP status and the reason of the Status object (NotFound, AlreadyExists, Conflict, Expired,
/// Invalid, Forbidden, TooManyRequests, ...).
class ApiError : public std::runtime_error {
 public:
  ApiError(int status, std::string reason, const std::string& message)
      : std::runtime_error(message), status_(status), reason_(std::move(reason)) {}
  int status() const { return status_; }
  const std::string& reason() const { return reason_; }
  bool not_found() const { return status_ == 404; }
  bool already_exists() const { return status_ == 409 && reason_ == "AlreadyExists"; }
  bool conflict() const { return status_ == 409 && reason_ == "Conflict"; }
  bool expired() const { return status_ == 410; }

 private:
  int status_;
  std::string reason_;
};

/// metadata.uid / resourceVersion that a delete or patch insists on; 409 Conflict otherwise.
struct Preconditions {
  std::optional<std::string> uid;
  std::optional<std::string> resource_version;
};

struct ListOptions {
  std::string label_selector;  ///< "a=b,c!=d,e" as kubectl's
  std::string field_selector;  ///< "path=value" of a field that the kind lets be selected by; "" as value: or missing
  int64_t limit = 0;           ///< 0 = everything
  std::string continue_token;
  std::string resource_version;  ///< "" = newest
};

struct ListResult {
  std::vector<Json> items;
  std::string resource_version;
  std::string continue_token;
};

enum class EventType { kAdded, kModified, kDeleted, kBookmark, kError };

struct WatchEvent {
  EventType type = EventType::kAdded;
  Json object;  ///< a Status object for kError
};

/// A running watch. Next() blocks up to `timeout`; nullopt = nothing came. After the server closed the stream (or
/// Cancel) done() is true and Next returns nullopt at once.
class Watch {
 public:
  virtual ~Watch() = default;
  virtual std::optional<WatchEvent> Next(std::chrono::milliseconds timeout) = 0;
  virtual void Cancel() = 0;
  virtual bool done() const = 0;
};

/// Every call throws ApiError. Thread safe. `ns` "" on List/Watch = all namespaces.
class Api {
 public:
  virtual ~Api() = default;
  virtual Json Get(const Resource& resource, const std::string& ns, const std::string& name) = 0;
  virtual ListResult List(const Resource& resource, const std::string& ns, const ListOptions& options = {}) = 0;
  /// Events after `resource_version`; 410 Expired (thrown or as an kError event) when that is too old.
  virtual std::unique_ptr<Watch> StartWatch(const Resource& resource, const std::string& ns,
                                            const ListOptions& options) = 0;
  virtual Json Create(const Resource& resource, const std::string& ns, const Json& object) = 0;
  /// RFC 7386 merge patch of everything but status. A metadata.resourceVersion inside the patch is a precondition.
  virtual Json MergePatch(const Resource& resource, const std::string& ns, const std::string& name,
                          const Json& patch) = 0;
  /// The same on the status subresource: only `status` (and a resourceVersion precondition) has effect.
  virtual Json MergePatchStatus(const Resource& resource, const std::string& ns, const std::string& name,
                                const Json& patch) = 0;
  /// Sets deletionTimestamp; the object goes when its finalizers (pods: the grace period) are done.
  /// `grace_period_seconds` only for pods; 0 = at once.
  virtual void Delete(const Resource& resource, const std::string& ns, const std::string& name,
                      const Preconditions& preconditions = {}, std::optional<int64_t> grace_period_seconds = {}) = 0;
};

/// The object, or nullopt when there is no such object.
inline std::optional<Json> Find(Api& api, const Resource& resource, const std::string& ns, const std::string& name) {
  try {
    return api.Get(resource, ns, name);
  } catch (const ApiError& error) {
    if (!error.not_found()) throw;
    return std::nullopt;
  }
}

/// The kinds the operator uses.
namespace resources {
inline const Resource kTrainJob{"anneal.dev", "v1alpha1", "TrainJob", "trainjobs"};
inline const Resource kEvalJob{"anneal.dev", "v1alpha1", "EvalJob", "evaljobs"};
inline const Resource kExportJob{"anneal.dev", "v1alpha1", "ExportJob", "exportjobs"};
inline const Resource kPod{"", "v1", "Pod", "pods"};
inline const Resource kService{"", "v1", "Service", "services"};
inline const Resource kConfigMap{"", "v1", "ConfigMap", "configmaps", false};
inline const Resource kPersistentVolumeClaim{"", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"};
inline const Resource kEvent{"", "v1", "Event", "events", false};
inline const Resource kLease{"coordination.k8s.io", "v1", "Lease", "leases", false};
}  // namespace resources

}  // namespace anneal::kube
