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

  /// The next key that is due, waits for one; `waited`: how long it was due. nullopt after ShutDown. The caller calls
  /// Done when it has finished.
  std::optional<Key> Get(std::chrono::duration<double>* waited = nullptr);
  void Done(const Key& key);
  /// Takes a key out of turn, also one that is not queued; false: somebody has it. The caller calls Done, and then a key
  /// that was queued is queued again.
  bool Take(const Key& key);
  void ShutDown();

  /// For metrics, as client-go counts.
  struct State {
    size_t depth = 0, active = 0;        ///< keys that are due, keys being processed
    uint64_t adds = 0, retries = 0;      ///< since the start: keys that became due, tries that were put off
    double unfinished = 0, longest = 0;  ///< seconds that the keys being processed have taken so far: sum, largest
  };
  State state() const;

 private:
  using Place = std::pair<Priority, uint64_t>;
  struct Queued {
    Place place;
    Steady::time_point since;
  };

  void Insert(const Key& key, Priority priority);
  void Promote();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::pair<Place, Key>> ready_;                        ///< by priority, then in order of arrival
  std::map<Key, Queued> queued_;                                 ///< keys in ready_
  std::map<Key, Steady::time_point> processing_;                 ///< and since when
  std::set<Key> again_;                                          ///< added while being processed
  std::map<Key, Steady::time_point> due_;                        ///< keys that wait for a time
  std::set<std::pair<Steady::time_point, const Key*>> delayed_;  ///< in the order of their times, into due_
  std::map<Key, int> failures_;
  uint64_t sequence_ = 0, adds_ = 0, retries_ = 0;
  bool stopped_ = false;
};

}  // namespace anneal::kube
