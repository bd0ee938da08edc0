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

  enum class Priority { kFresh, kInitial };  ///< what changed now goes before what a first list brought

  void Add(const Key& key, Priority priority = Priority::kFresh);
  /// A key waits for one time only, the earliest that was asked for: else every event would leave a timer behind.
  void AddAfter(const Key& key, std::chrono::milliseconds delay);
  /// Back-off 5 ms x 2^n up to 1000 s (client-go's default) until Forget.
  void AddRateLimited(const Key& key);
  void Forget(const Key& key);

  /// The next key that is due; waits for one. nullopt after ShutDown. The caller calls Done when it has finished.
  std::optional<Key> Get();
  void Done(const Key& key);
  void ShutDown();
  /// Keys that are due, and keys being processed.
  size_t depth() const;
  size_t active() const;

 private:
  using Place = std::pair<Priority, uint64_t>;

  void Insert(const Key& key, Priority priority);
  void Promote();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::pair<Place, Key>> ready_;  ///< by priority, then in order of arrival
  std::map<Key, Place> queued_;            ///< keys in ready_
  std::set<Key> processing_, again_;       ///< again_: added while being processed
  std::set<std::pair<Steady::time_point, Key>> delayed_;
  std::map<Key, Steady::time_point> due_;  ///< keys in delayed_
  std::map<Key, int> failures_;
  uint64_t sequence_ = 0;
  bool stopped_ = false;
};

}  // namespace anneal::kube
