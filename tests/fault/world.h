// A cluster in one thread: API server, kubelet, garbage collector, the user of a workload, and the operator. Time is
// stepped. Every change is shown to the invariants as soon as it is made.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "operator/local/memory_api.h"
#include "tests/fault/faulty_api.h"
#include "tests/fault/invariants.h"
#include "tests/fault/stepped_operator.h"

namespace anneal::fault {

class SteppedClock : public kube::Clock {
 public:
  Time Now() const override { return now; }
  Time now = std::chrono::system_clock::from_time_t(1'800'000'000);
};

/// How a worker ends; after_seconds < 0: it runs for ever.
struct Ending {
  int after_seconds = -1;
  int code = 0;
  std::string message = "";
};

class World;

/// What happens in a workload, whatever the operator does about it.
struct Workload {
  std::string name, about;
  /// How the worker of a pod ends.
  std::function<Ending(const kube::Json& pod)> ending;
  /// Of the user (or the cluster): each is done as soon as its condition holds.
  struct Step {
    std::function<bool(World&)> when;
    std::function<void(World&)> act;
  };
  std::vector<Step> steps;
  /// Faults in the end state that every plan has to reach, in words.
  std::function<std::string(World&)> expect;
};

/// What a plan led to.
struct Result {
  std::vector<std::string> faults;  ///< empty: passed
  std::string end;                  ///< objects, states and how often each was made: equal for all plans of a workload
  Extent extent;
};

class World {
 public:
  /// `trace`: every change is printed.
  World(const Workload& workload, const Plan& plan, const std::string& mutation, bool trace = false);

  Result Run();

  // For workloads:
  kube::Json Get(const kube::Resource& resource, const std::string& name);  ///< null when it is not there
  kube::Json Status(const kube::Resource& resource, const std::string& name);
  std::string Phase(const kube::Resource& resource, const std::string& name);
  int RunOf(const kube::Resource& resource, const std::string& name);
  bool Exists(const kube::Resource& resource, const std::string& name);
  int64_t Seconds() const;      ///< since the begin
  std::string silent_node_pod;  ///< a kubelet that does not answer: its pod only goes when it is forced

  SteppedClock clock;
  local::MemoryApi server;

 private:
  struct Process {
    std::unique_ptr<FaultyApi> api;
    std::unique_ptr<SteppedOperator> program;
    bool stopped = false;         ///< SIGSTOP
    kube::Clock::Time renewed{};  ///< when it renewed its lease last
    int notices_in = 3;           ///< rounds until it knows that another leads
  };

  bool Round();
  void RenewLease();
  void RunOperators();
  bool Kubelet();
  void CollectGarbage();
  bool UserActs();
  void Observe(const std::string& writer);
  void Trace(const kube::Resource& resource, const kube::WatchEvent& event, const std::string& writer) const;
  void StartOperator();
  bool StandStill();
  void Advance(std::chrono::milliseconds most);
  void RunFor(int seconds);
  std::vector<kube::Json> Past(const kube::Resource& resource, uint64_t versions);
  std::string EndState();
  void CheckSteady(Result& result);

  struct Seen {
    uint64_t version;
    kube::Resource resource;
    kube::WatchEvent event;
  };

  const Workload& workload_;
  bool trace_;
  PlanState state_;
  Invariants invariants_;
  std::vector<std::unique_ptr<kube::Watch>> watches_;
  std::vector<Seen> history_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::string> surprises_;
  kube::Clock::Time start_again_{}, begin_;
  size_t step_ = 0;
  int depth_ = 0;
  uint64_t version_ = 0, collected_ = 0;
  kube::Clock::Time busy_{};  ///< when somebody last did something
};

}  // namespace anneal::fault
