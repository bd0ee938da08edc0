// One process of the operator, stepped by hand: the reconcilers, the event router and the rules of the manager's queue,
// without threads and on the world's clock, so that a plan always runs the same way.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "operator/controllers/controllers.h"
#include "operator/kube/event_router.h"

namespace anneal::fault {

class SteppedOperator {
 public:
  SteppedOperator(kube::Api& api, const kube::Clock& clock);

  /// Takes what its watches have, and reconciles one key. False: there was nothing to do now.
  bool Step();
  /// The next moment at which it has something to do by itself.
  std::optional<kube::Clock::Time> Next() const;
  /// Reconciles that threw something else than ApiError.
  const std::vector<std::string>& surprises() const { return surprises_; }

 private:
  using Wake = kube::EventRouter::Wake;

  void Follow(size_t source);
  void Queue(const std::vector<Wake>& wakes);
  void Later(const Wake& wake, kube::Clock::Time time);
  void Reconcile(const Wake& wake);
  void TryAgain(const Wake& wake);

  kube::Api& api_;
  const kube::Clock& clock_;
  controllers::ProgressPoller poller_;
  kube::ChildCache children_;
  kube::OwnWrites own_writes_;
  std::vector<std::unique_ptr<kube::Reconciler>> reconcilers_;
  std::unique_ptr<kube::EventRouter> router_;
  std::vector<std::unique_ptr<kube::Watch>> watches_;  ///< by source; null: to be listed
  std::vector<kube::Clock::Time> listed_again_;        ///< by source: not before
  std::deque<Wake> ready_;
  std::map<Wake, kube::Clock::Time> timers_;
  std::map<Wake, int> failures_;
  std::vector<std::string> surprises_;
};

}  // namespace anneal::fault
