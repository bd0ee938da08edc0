// Watches over the ranks of a group: each rank leaves a pulse in the store twice a second, and when a collective fails
// the ranks agree on one verdict about who is to blame.
//
// Kept in the store: "pulse/<rank>" (Pulse as JSON), "verdict" (set once, by the first rank that failed) and
// "informed/<rank>" (that rank knows the verdict). The store lives in rank 0, which stays for a moment after a failure
// so that the others can still read it; when it does not answer, rank 0 is to blame.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "worker/dist/peer_diagnosis.h"

namespace c10d {
class Store;
}

namespace anneal::dist {

class PeerMonitor {
 public:
  /// `store`: a connection of its own, used by the monitor's thread alone. `on_verdict` is called once when
  /// a verdict is known here, from that thread or from Judge; a process that then does not end by itself within `grace`
  /// is ended with exit code 76: it may hang in something that no error reaches.
  PeerMonitor(c10::intrusive_ptr<c10d::Store> store, int rank, int world_size,
              std::function<void(const Verdict&)> on_verdict, std::chrono::seconds grace = std::chrono::seconds(10));
  /// Says good-bye to the others: `failed` when this rank ends with an error of its own.
  ~PeerMonitor();
  PeerMonitor(const PeerMonitor&) = delete;
  PeerMonitor& operator=(const PeerMonitor&) = delete;

  /// A collective begins or has ended.
  void Enter(int64_t sequence, const char* operation, int64_t step);
  void Leave();

  /// A collective failed here: the verdict of the whole group. Takes a few beats, at most some seconds.
  Verdict Judge();

 private:
  struct State;
  static void Watch(const std::shared_ptr<State>& state);
  /// The thread keeps it alive, too: a store that does not answer may hold the thread for ever.
  std::shared_ptr<State> state_;
};

}  // namespace anneal::dist
