// From objects that are seen to keys that have to be reconciled: an object's own key, its controlling owner's, and
// those of the objects that refer to it.
//
// Of an object only its name, its owner and what it refers to are kept, so that an event costs a look-up, however many
// jobs a namespace holds; children also go into a ChildCache, before anybody is woken.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "operator/kube/child_cache.h"
#include "operator/kube/own_writes.h"
#include "operator/kube/reconciler.h"

namespace anneal::kube {

/// Thread safe.
class EventRouter {
 public:
  /// A key of the reconciler of that number.
  struct Wake {
    size_t reconciler = 0;
    Key key;
    auto operator<=>(const Wake&) const = default;
  };
  /// A kind to list and watch; children only by the label of what this operator makes.
  struct Source {
    Resource resource;
    bool child = false;
  };
  /// What is kept of an object.
  struct Trace {
    Key key;
    std::vector<Wake> owners;
    std::vector<std::pair<size_t, Key>> references;  ///< source number, key
    ChildCache::Child child;                         ///< its body goes into the cache
    std::string phase;                               ///< of a reconciler's own kind
    bool own = false;                                ///< of that kind, and as its reconciler has just written it
  };

  /// `children` and `own_writes` may be null. What a reconciler has written itself wakes only those who refer to it.
  explicit EventRouter(std::vector<const Reconciler*> reconcilers, ChildCache* children = nullptr,
                       OwnWrites* own_writes = nullptr);

  const std::vector<Source>& sources() const { return sources_; }
  Trace Read(size_t source, const Json& object) const;

  /// An object was added or changed, or is gone: whom that concerns.
  std::vector<Wake> Changed(size_t source, Trace trace);
  std::vector<Wake> Gone(size_t source, const Trace& trace);
  /// A whole list of a namespace ("" = of all) takes the place of what was known; what is missing in it is gone.
  std::vector<Wake> Replaced(size_t source, const std::string& ns, std::vector<Trace> list);
  /// Objects known.
  size_t size() const;
  /// How many objects of a reconciler's own kind are in which phase ("" before the first status).
  std::map<std::string, size_t> Phases(size_t reconciler) const;

 private:
  struct ByKey {
    using is_transparent = void;
    static const Key& Of(const Trace& trace) { return trace.key; }
    static const Key& Of(const Key& key) { return key; }
    bool operator()(const auto& a, const auto& b) const { return Of(a) < Of(b); }
  };

  size_t SourceOf(const Resource& resource, bool child);
  void Keep(size_t source, Trace trace);
  void Forget(size_t source, const Key& key);
  void ForgetChild(const Trace& trace);
  std::vector<Wake> WakesOf(size_t source, const Trace& trace) const;

  std::vector<const Reconciler*> reconcilers_;
  ChildCache* children_;
  OwnWrites* own_writes_;
  std::vector<Source> sources_;
  mutable std::mutex mutex_;
  std::vector<std::set<Trace, ByKey>> known_;  ///< by source
  std::map<std::pair<size_t, Key>, std::set<Wake>> followers_;
};

}  // namespace anneal::kube
