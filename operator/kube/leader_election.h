// One of several replicas works at a time: a Lease of the API server, as client-go's leaderelection.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"

namespace anneal::kube {

struct LeaderOptions {
  std::string ns, name = "anneal-operator";
  std::string identity;  ///< hostname_random
  std::chrono::milliseconds lease{15'000}, renew_deadline{10'000}, retry{2'000};
};

/// Expiry is judged by when this process saw the lease change, never by the times in it: clocks differ. The API server
/// does not know the lease, so the leader itself asks LeadsSurely() before each write; what it has under way when it is
/// stopped (SIGSTOP, a frozen node) is still done when it wakes: that one write has to be safe by itself.
class LeaderElector {
 public:
  LeaderElector(Api& api, const Clock& clock, LeaderOptions options)
      : api_(api), clock_(clock), options_(std::move(options)) {}
  /// One try to take or renew the lease; true = we hold it. ApiErrors count as a failed try.
  bool Try();
  /// Blocks until we lead or `stop`.
  bool Acquire(const std::atomic<bool>& stop);
  /// Renews until `stop` (then true) or until the deadline passed without success (false: stop working at once).
  bool Hold(const std::atomic<bool>& stop);
  /// Whether nobody else can have taken the lease: it was renewed less than the renew deadline ago. Any thread.
  bool LeadsSurely() const { return held_ && Steady::now().time_since_epoch().count() < sure_until_; }
  /// Gives the lease away, so that the next replica starts without waiting for its end.
  void Release();

 private:
  using Steady = std::chrono::steady_clock;
  Api& api_;
  const Clock& clock_;
  LeaderOptions options_;
  std::string seen_;  ///< resourceVersion of the lease at seen_at_
  Steady::time_point seen_at_{};
  std::atomic<bool> held_{false};
  std::atomic<Steady::rep> sure_until_{0};
};

}  // namespace anneal::kube
