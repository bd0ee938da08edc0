// The children of jobs (pods) as the watch tells them, cut down to what decisions read: so that a reconcile costs as
// much as its job has pods, not as much as the namespace has.
//
// A watch tells late. What that could break is covered: a pod that this process makes, or may have made when the answer
// was lost, counts as there until the watch has told of it (Expect); deletes insist on the UID and version that were
// read; a pod that is missing is asked for by name before it counts as lost (JobReconciler).
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::kube {

/// Thread safe.
class ChildCache {
 public:
  /// A child on its way into the cache.
  struct Child {
    std::string uid, owner;  ///< owner: UID of the controlling owner, "" for none
    std::string body;        ///< CBOR of the fields that are read, but for name and namespace: some 500 bytes for a pod
  };
  static Child Pack(const Json& object);

  // What the watch tells, in its order.
  void Put(const Key& key, const std::string& owner, std::string body);
  void Erase(const Key& key, const std::string& owner, const std::string& uid);

  // What this process does: Expect before a child is made; then Made, or NotMade when the server refused; neither when
  // nobody knows.
  void Expect(const Key& key, const std::string& owner);
  void Made(const Json& child, Clock::Time now);
  void NotMade(const Key& key);

  struct Children {
    std::vector<Json> known;  ///< in the order of their names
    /// Perhaps made, but nobody has told: to be asked for by name, then Made or NotMade.
    std::vector<Key> unsure;
  };
  Children Of(const std::string& owner, Clock::Time now) const;

 private:
  struct Expected {
    std::string owner;
    std::optional<Child> made;
    Clock::Time since{};
  };
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, Key>, std::string> bodies_;  ///< by owner and name
  std::map<Key, Expected> expected_;                           ///< few: the watch tells of most within milliseconds
};

}  // namespace anneal::kube
