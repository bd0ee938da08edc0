// The operator's only way to the API server, with the plan's fault in it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"
#include "tests/fault/plan.h"

namespace anneal::fault {

/// The operator's process ends here. Nothing of the operator catches it.
struct Killed {};

/// What the transport needs of the world around it.
struct Surroundings {
  std::function<kube::Clock::Time()> now;
  /// After each write: lets the observer see what it did, as the operator's. `late`: the write that was under way when
  /// the operator was stopped and that nothing can take back.
  std::function<void(bool late)> wrote;
  /// Asked just before each write, as the HTTPS client asks: whether the lease is surely held.
  std::function<bool()> may_write;
  /// The operator stands still (SIGSTOP) while a second one takes over and works; then this returns. False: it did not.
  std::function<bool()> stand_still;
  /// The objects of a kind as they were `versions` writes ago; nullopt: as they are.
  std::function<std::vector<kube::Json>(const kube::Resource&, uint64_t versions)> past;
  std::function<uint64_t()> version;
};

/// Counters and randomness of a plan: they outlive the operator's process.
struct PlanState {
  Plan plan;
  std::string mutation;  ///< a bug put into the transport, to see that the checks find it
  int writes = 0, reads = 0, notifications = 0;
  bool armed = true;  ///< false: no faults any more, the world heals
  bool struck = false;
  uint64_t stale_since = 0;  ///< version that lists show
  kube::Clock::Time stale_until{};
  std::mt19937 random{1};
};

class FaultyApi : public kube::Api {
 public:
  FaultyApi(kube::Api& server, PlanState& state, Surroundings surroundings);

  kube::Json Get(const kube::Resource& resource, const std::string& ns, const std::string& name) override;
  kube::ListResult List(const kube::Resource& resource, const std::string& ns,
                        const kube::ListOptions& options) override;
  std::unique_ptr<kube::Watch> StartWatch(const kube::Resource& resource, const std::string& ns,
                                          const kube::ListOptions& options) override;
  kube::Json Create(const kube::Resource& resource, const std::string& ns, const kube::Json& object) override;
  kube::Json MergePatch(const kube::Resource& resource, const std::string& ns, const std::string& name,
                        const kube::Json& patch) override;
  kube::Json MergePatchStatus(const kube::Resource& resource, const std::string& ns, const std::string& name,
                              const kube::Json& patch) override;
  void Delete(const kube::Resource& resource, const std::string& ns, const std::string& name,
              const kube::Preconditions& preconditions, std::optional<int64_t> grace_period_seconds) override;

 private:
  template <class Call>
  auto Write(const Call& call);
  void Read();
  void FailPerhaps(bool write, bool done);
  bool Strikes(Fault fault, int count);
  bool Chance(double percent);

  kube::Api& server_;
  PlanState& state_;
  Surroundings world_;
};

}  // namespace anneal::fault
