// Events: what happened to an object, for people, as `kubectl describe` shows it.
//
// Telling never holds up the work and never floods the server: equal events are one with a count, many similar ones
// are combined, an object that says too much is not heard for a while (client-go's limits), and what cannot be sent is
// dropped.
#pragma once

#include <condition_variable>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"

namespace anneal::kube {

struct EventFact {
  bool warning = false;
  std::string reason;   ///< one word, CamelCase
  std::string message;  ///< cut at 1024 bytes
};

/// Decides what becomes of an event: pure but for what it remembers. Not thread safe.
class EventCorrelator {
 public:
  /// A new Event to create, or the count of one that is there.
  struct Verdict {
    std::string ns, name;  ///< of the Event
    bool create = true;
    Json body;  ///< the Event, or the merge patch
  };

  explicit EventCorrelator(std::string instance) : instance_(std::move(instance)) {}
  /// nullopt: the object has said too much.
  std::optional<Verdict> Take(const Json& object, const EventFact& fact, Clock::Time now);
  /// The Event is not there any more (the server keeps them for an hour): it is made anew the next time.
  void Forget(const std::string& ns, const std::string& name);

  static constexpr int kBurst = 25, kSimilar = 10;
  static constexpr std::chrono::seconds kRefill{300}, kWindow{600};
  static constexpr size_t kRemembered = 4096;

 private:
  /// Texts are remembered by their hash: 4,096 of them would be megabytes. That of the object's UID, which the server
  /// makes, stands by itself: whatever a message says, it is that object's.
  using Hash = std::pair<uint64_t, uint64_t>;
  struct Told {
    std::string ns, name;
    int count = 0;
  };
  struct Budget {
    double tokens = kBurst;
    Clock::Time filled;
  };
  struct Group {
    Clock::Time begin;
    std::set<uint64_t> messages;
  };

  bool Spends(const std::string& uid, Clock::Time now);
  bool IsOneOfMany(Hash group, const std::string& message, Clock::Time now);

  std::string instance_;
  std::map<Hash, Told> told_;           ///< by object, type, reason, message
  std::list<Hash> order_;               ///< keys of told_, the oldest first
  std::map<uint64_t, Budget> budgets_;  ///< by UID
  std::map<Hash, Group> groups_;
  uint64_t number_ = 0;
};

class EventRecorder {
 public:
  /// `instance`: this process, for reportingInstance.
  EventRecorder(Api& api, const Clock& clock, const std::string& instance);
  /// Sends what waits, for at most two seconds.
  ~EventRecorder();
  /// Returns at once. Of more than 1000 waiting events the newest are dropped.
  void Record(const Json& object, const EventFact& fact);

 private:
  struct Waiting {
    Json object;  ///< kind, names and UID only
    EventFact fact;
    Clock::Time time;
  };
  void Loop();
  void Send(const Waiting& waiting);

  Api& api_;
  const Clock& clock_;
  EventCorrelator correlator_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  bool stopping_ = false;
  std::chrono::steady_clock::time_point give_up_{};
  std::thread thread_;
};

}  // namespace anneal::kube
