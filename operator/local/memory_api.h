// The Kubernetes API server of the embedded mode: objects in memory, the real server's semantics, a copy on disk.
//
// resourceVersion grows with every write; generation with every change of spec; writes may insist on a version or UID
// (409); watches replay from a version or say 410 when it is too old; finalizers and the grace period of pods delay
// removal; what an owner leaves behind is collected.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"

namespace anneal::local {

class MemoryApi : public kube::Api {
 public:
  struct Options {
    std::string folder;  ///< where objects are kept; empty: memory only. What is there is loaded.
    /// Defaults and checks an object before it is stored; throws ApiError 422.
    std::function<kube::Json(const kube::Resource&, kube::Json)> admit;
    size_t history = 4096;  ///< events kept for watches
  };

  MemoryApi(Options options, const kube::Clock& clock);
  ~MemoryApi() override;

  kube::Json Get(const kube::Resource& resource, const std::string& ns, const std::string& name) override;
  kube::ListResult List(const kube::Resource& resource, const std::string& ns, const kube::ListOptions& options) override;
  std::unique_ptr<kube::Watch> StartWatch(const kube::Resource& resource, const std::string& ns,
                                          const kube::ListOptions& options) override;
  kube::Json Create(const kube::Resource& resource, const std::string& ns, const kube::Json& object) override;
  kube::Json MergePatch(const kube::Resource& resource, const std::string& ns, const std::string& name,
                        const kube::Json& patch) override;
  kube::Json MergePatchStatus(const kube::Resource& resource, const std::string& ns, const std::string& name,
                              const kube::Json& patch) override;
  void Delete(const kube::Resource& resource, const std::string& ns, const std::string& name,
              const kube::Preconditions& preconditions, std::optional<int64_t> grace_period_seconds) override;

  /// Called before every request with its verb and resource; may throw ApiError. For fault tests.
  void SetFault(std::function<void(const std::string& verb, const kube::Resource&)> fault);

 private:
  struct Event {
    uint64_t version;
    kube::Resource resource;
    kube::WatchEvent event;
  };
  struct Subscription;
  class MemoryWatch;
  using Objects = std::map<kube::Key, kube::Json>;

  Objects& ObjectsOf(const kube::Resource& resource);
  kube::Json& Find(const kube::Resource& resource, const std::string& ns, const std::string& name);
  void Load();
  void Store(const kube::Resource& resource, kube::Json& object, kube::EventType type);
  void Remove(const kube::Resource& resource, const kube::Key& key);
  void CollectOrphans(const std::string& uid);
  std::string PathOf(const kube::Resource& resource, const kube::Json& object) const;
  void Check(const std::string& verb, const kube::Resource& resource);

  Options options_;
  const kube::Clock& clock_;
  std::recursive_mutex mutex_;
  std::map<std::string, std::pair<kube::Resource, Objects>> kinds_;  ///< by "plural.group"
  uint64_t version_ = 0;
  std::deque<Event> history_;
  uint64_t forgotten_ = 0;  ///< newest version that has left the history
  std::vector<std::weak_ptr<Subscription>> subscriptions_;
  std::function<void(const std::string&, const kube::Resource&)> fault_;
};

/// Whether labels satisfy a selector such as "a=b,c!=d,e,!f".
bool MatchesSelector(const kube::Json& labels, const std::string& selector);

}  // namespace anneal::local
