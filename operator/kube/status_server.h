// /healthz, /livez, /readyz and /metrics on a port, and the metrics themselves (names as controller-runtime's).
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "operator/kube/manager.h"

namespace anneal::kube {

/// Thread safe. No label ever holds a job's name: the number of series stays bounded.
class Metrics {
 public:
  /// `workers` per kind.
  explicit Metrics(int workers);
  void Reconciled(const ManagerOptions::Reconciled& reconciled);
  void Requested(const std::string& code, const std::string& method, double seconds);
  void Reconnected(const std::string& plural, const std::string& reason);
  /// A job of a kind has come to a phase, `seconds` after its run began if that is told.
  void PhaseReached(const std::string& kind, const std::string& phase, std::optional<double> seconds);
  void Restarted(const std::string& kind, const std::string& reason);
  void SetKind(const Manager::KindState& kind);
  void SetFollowed(size_t objects);
  void SetLeader(bool leads);
  /// Prometheus text format.
  std::string Text() const;

 private:
  prometheus::Registry registry_;
  const double workers_;
  prometheus::Family<prometheus::Counter>&reconciles_, &errors_, &panics_, &requests_, &reconnects_;
  prometheus::Family<prometheus::Histogram>&reconcile_seconds_, &waited_seconds_, &work_seconds_, &request_seconds_,
      &phase_seconds_;
  prometheus::Family<prometheus::Counter>&adds_, &retries_, &transitions_, &restarts_;
  prometheus::Family<prometheus::Gauge>&depth_, &unfinished_, &longest_, &active_, &most_active_, &jobs_, &followed_,
      &leader_, &memory_;
  std::mutex mutex_;
  std::map<std::string, std::map<std::string, prometheus::Gauge*>> phases_;  ///< kind -> phase, once seen
};

/// Answers GET requests until it is destroyed, as Kubernetes' own servers do: /readyz "ok" or 503 and a line per check,
/// /readyz?verbose always the lines, /readyz/NAME one check alone.
class StatusServer {
 public:
  struct Check {
    std::string name;
    std::function<std::string()> ask;  ///< "" when well, else what is wrong
  };
  using Checks = std::vector<Check>;
  /// `address` "0.0.0.0:8080". Throws anneal::ConfigError when it cannot listen there.
  StatusServer(const std::string& address, Checks healthy, Checks ready, std::function<std::string()> metrics);
  ~StatusServer();

 private:
  struct Listener;
  std::unique_ptr<Listener> listener_;
};

}  // namespace anneal::kube
