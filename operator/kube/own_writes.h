// The versions of objects that this process has just made itself. The watch tells of them too: who wrote one has
// nothing to learn from that.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "operator/kube/reconciler.h"

namespace anneal::kube {

/// Thread safe. Holds one version per object, until the watch has told of it or the object is forgotten. An event that
/// comes before Wrote is called counts as somebody else's: that costs one look in vain.
class OwnWrites {
 public:
  void Wrote(const Resource& kind, const Key& key, const std::string& version) {
    const std::lock_guard lock(mutex_);
    versions_[{kind.plural, key}] = version;
  }
  /// Whether this is the version written last; true once for each.
  bool Take(const Resource& kind, const Key& key, const std::string& version) {
    const std::lock_guard lock(mutex_);
    const auto found = versions_.find({kind.plural, key});
    if (found == versions_.end() || found->second != version) return false;
    versions_.erase(found);
    return true;
  }
  void Forget(const Resource& kind, const Key& key) {
    const std::lock_guard lock(mutex_);
    versions_.erase({kind.plural, key});
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<std::string, Key>, std::string> versions_;
};

}  // namespace anneal::kube
