// Keys waiting to be reconciled: each once, never by two workers at a time, with a back-off per key.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "operator/kube/reconciler.h"

namespace anneal::kube {

class WorkQueue {
 public:
  using Steady = std::chrono::steady_clock;

  void Add(const Key& key);
  void AddAfter(const Key& key, std::chrono::milliseconds delay);
  /// Back-off 5 ms x 2^n up to 1000 s (client-go's default) until Forget.
  void AddRateLimited(const Key& key);
  void Forget(const Key& key);

  /// The next key that is due; waits for one. nullopt after ShutDown. The caller calls Done when it has finished.
  std::optional<Key> Get();
  void Done(const Key& key);
  void ShutDown();

 private:
  void Promote();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::pair<uint64_t, Key>> ready_;        ///< in order of arrival
  std::map<Key, uint64_t> queued_;                  ///< keys in ready_
  std::set<Key> processing_, again_;                ///< again_: added while being processed
  std::multimap<Steady::time_point, Key> delayed_;
  std::map<Key, int> failures_;
  uint64_t sequence_ = 0;
  bool stopped_ = false;
};

}  // namespace anneal::kube
