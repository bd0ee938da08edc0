#include "operator/serve/serve_command.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>

#include "operator/controllers/controllers.h"
#include "operator/controllers/policies/transitions.h"
#include "operator/kube/https_api.h"
#include "operator/kube/leader_election.h"
#include "operator/kube/manager.h"
#include "operator/kube/status_server.h"

namespace anneal::serve {
namespace {

using kube::Json;
using std::chrono::milliseconds;

/// Lines on stderr, each whole.
class Log {
 public:
  Log(const std::string& level, const std::string& format)
      : least_(Rank(level)), asked_(least_), json_(format == "json") {}

  bool Tells(const std::string& level) const { return Rank(level) >= least_; }
  /// Between everything and the level asked for at the start; info, when that was everything.
  void Toggle() {
    const int next = least_ == 0 ? std::max(asked_, 1) : 0;
    least_ = 0;  // what follows is told in any case
    (*this)("info", "log level", {{"now", kLevels[next]}});
    least_ = next;
  }

  void operator()(const std::string& level, const std::string& message, Json fields = Json::object()) {
    if (!Tells(level)) return;
    const std::string time = kube::FormatTime(std::chrono::system_clock::now());
    std::string line;
    if (json_) {
      fields["ts"] = time;
      fields["level"] = level;
      fields["msg"] = message;
      line = fields.dump(-1, ' ', false, Json::error_handler_t::replace);
    } else {
      line = time + " " + level + " " + message;
      for (const auto& [name, value] : fields.items())
        line += " " + name + "=" + value.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    const std::lock_guard lock(mutex_);
    std::cerr << line << std::endl;
  }

 private:
  static constexpr std::array<const char*, 3> kLevels{"debug", "info", "error"};
  static int Rank(const std::string& level) {
    return static_cast<int>(std::find(kLevels.begin(), kLevels.end(), level) - kLevels.begin());
  }

  std::atomic<int> least_;
  const int asked_;
  const bool json_;
  std::mutex mutex_;
};

std::string Identity() {
  char host[256] = "unknown";
  ::gethostname(host, sizeof host - 1);
  std::random_device random;
  return std::string(host) + "_" + std::to_string((uint64_t{random()} << 32) | random());
}

/// Waits for signals, which every thread has blocked: the second SIGTERM or SIGINT ends the process at once. Gives
/// freed memory back meanwhile.
void FollowSignals(std::atomic<bool>& stop, const std::atomic<bool>& over, const sigset_t& signals, Log& log,
                   const std::function<Json()>& state) {
  auto trimmed = std::chrono::steady_clock::now();
  while (!over) {
    const timespec wait{0, 200'000'000};
    const int signal = ::sigtimedwait(&signals, nullptr, &wait);
    // What many jobs at once took goes back to the kernel, wherever it lies in the heap.
    if (const auto now = std::chrono::steady_clock::now(); now - trimmed > std::chrono::minutes(1)) {
      ::malloc_trim(0);
      trimmed = now;
    }
    if (signal < 0) continue;
    if (signal == SIGUSR1) {
      log("info", "state", state());
      continue;
    }
    if (signal == SIGUSR2) {
      log.Toggle();
      continue;
    }
    if (stop) ::_exit(1);
    log("info", "stopping", {{"signal", signal}});
    stop = true;
  }
}

}  // namespace

int ServeCommand(const ServeOptions& options, const std::string& version) {
  // Many threads that each keep a heap of their own would cost more than all objects together.
  ::mallopt(M_ARENA_MAX, 2);
  // Pages of lists come and go as memory of their own; glibc would move this threshold up and mix them with what stays.
  ::mallopt(M_MMAP_THRESHOLD, 256 << 10);
  ::signal(SIGPIPE, SIG_IGN);
  Log log(options.log_level, options.log_format);
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGUSR1);
  ::sigaddset(&signals, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread is made
  // As few as can be: each hands on to another what it has just read. Two, for closing a listener waits in one of them
  // for what the other does.
  kube::SetConnectionThreads(2);

  const kube::ClusterConfig cluster = kube::FindClusterConfig(options.kubeconfig, options.context);
  kube::Metrics metrics(options.workers);
  kube::HttpsOptions https;
  https.user_agent = "anneal-operator/" + version + " (linux/amd64)";
  https.observe = [&](const std::string& code, const std::string& method, double seconds) {
    metrics.Requested(code, method, seconds);
  };
  // Connections of their own and short tries: neither the lease nor Events may wait behind other requests.
  kube::HttpsOptions brief = https;
  brief.request_timeout = std::chrono::seconds(4);
  brief.tries = 1;
  kube::HttpsApi lease_api(cluster, brief);
  kube::HttpsApi event_api(cluster, brief);
  const kube::Clock clock;
  kube::LeaderOptions lease;
  lease.ns = options.lease_namespace.empty() ? cluster.default_namespace : options.lease_namespace;
  lease.identity = Identity();
  lease.lease = std::chrono::seconds(options.lease_seconds);
  lease.renew_deadline = std::chrono::seconds(options.renew_seconds);
  lease.retry = std::chrono::seconds(options.retry_seconds);
  kube::LeaderElector elector(lease_api, clock, lease);
  https.qps = options.qps;
  https.burst = options.burst;
  if (options.leader_elect) https.may_write = [&] { return elector.LeadsSurely(); };
  kube::HttpsApi api(cluster, https);

  std::atomic<bool> stop{false}, over{false}, leads{false}, lost{false};
  std::unique_ptr<kube::Manager> manager;
  std::mutex manager_mutex;
  auto with_manager = [&](const auto& act) {
    const std::lock_guard lock(manager_mutex);
    if (manager) act(*manager);
  };
  const kube::StatusServer::Checks healthy = {{"lease", [&] { return std::string(lost ? "the lease is lost" : ""); }}};
  const kube::StatusServer::Checks ready = {{"running", [&] { return std::string(stop ? "stopping" : ""); }},
                                            {"lists", [&] {
                                               std::string fault;  // a standby is ready
                                               with_manager([&](kube::Manager& running) {
                                                 fault = running.synced() ? "" : "the first lists are not complete";
                                               });
                                               return fault;
                                             }}};
  const auto text = [&] {
    metrics.SetLeader(leads);
    with_manager([&](kube::Manager& running) {
      for (const auto& kind : running.kinds()) metrics.SetKind(kind);
      metrics.SetFollowed(running.followed());
    });
    return metrics.Text();
  };
  kube::StatusServer health(options.health_address, healthy, ready, nullptr);
  std::unique_ptr<kube::StatusServer> scrape;
  if (options.metrics_address != "0")
    scrape = std::make_unique<kube::StatusServer>(options.metrics_address, healthy, ready, text);
  const auto state = [&] {
    Json fields = {{"leading", leads.load()}};
    with_manager([&](kube::Manager& running) {
      fields["followed"] = running.followed();
      for (const auto& kind : running.kinds()) fields["queued"][kind.kind] = kind.queue.depth;
    });
    return fields;
  };
  std::thread signal_thread([&] { FollowSignals(stop, over, signals, log, state); });
  struct Join {
    std::thread& thread;
    std::atomic<bool>& over;
    ~Join() {
      over = true;
      thread.join();
    }
  } join{signal_thread, over};

  log("info", "starting", {{"version", version}, {"server", cluster.server}, {"identity", lease.identity}});
  if (options.leader_elect && !elector.Acquire(stop)) return 0;
  leads = true;
  log("info", "leading");

  {
    controllers::ProgressPoller poller(std::chrono::seconds(options.progress_seconds),
                                       [&](const kube::Resource& kind, const kube::Key& key) {
                                         with_manager([&](kube::Manager& running) { running.Enqueue(kind, key); });
                                       });
    kube::ChildCache children;
    kube::OwnWrites own_writes;
    kube::EventRecorder recorder(event_api, clock, lease.identity);
    const auto count_transition = [&](const kube::Resource& kind, const Json& before, const Json& after) {
      const auto transition = controllers::TransitionOf(before, after, clock.Now());
      if (!transition) return;
      metrics.PhaseReached(kind.kind, transition->phase, transition->seconds);
      if (!transition->restart_reason.empty()) metrics.Restarted(kind.kind, transition->restart_reason);
    };
    const auto reconcilers =
        controllers::MakeReconcilers({api, clock, poller, &children, &own_writes, &recorder, count_transition});
    std::vector<kube::Reconciler*> pointers;
    for (const auto& reconciler : reconcilers) pointers.push_back(reconciler.get());
    kube::ManagerOptions how;
    if (!options.namespaces.empty()) how.namespaces = options.namespaces;
    how.children = &children;
    how.own_writes = &own_writes;
    how.child_selector = "app.kubernetes.io/managed-by=anneal-operator";
    how.unserved = "status.phase=";
    how.reconciled = [&](const kube::ManagerOptions::Reconciled& done) {
      metrics.Reconciled(done);
      const bool failed = !done.error.empty();
      if (!failed && !log.Tells("debug")) return;
      Json fields = {{"controller", done.kind},
                     {"namespace", done.key.ns},
                     {"name", done.key.name},
                     {"result", done.result},
                     {"seconds", done.took}};
      if (failed) fields["error"] = done.error;
      log(failed ? "error" : "debug", failed ? "reconcile failed" : "reconciled", std::move(fields));
    };
    how.reconnected = [&](const std::string& plural, const std::string& reason) {
      metrics.Reconnected(plural, reason);
    };
    {
      const std::lock_guard lock(manager_mutex);
      manager = std::make_unique<kube::Manager>(
          api, pointers, options.workers, [&](const std::string& line) { log("error", line); }, how);
      manager->Start();
    }
    if (options.leader_elect) {
      lost = !elector.Hold(stop);
    } else {
      while (!stop) std::this_thread::sleep_for(milliseconds(100));
    }
    leads = false;
    if (lost) {
      // Another replica may be working already: nothing more is written.
      log("error", "the lease is lost");
      ::_exit(1);
    }
    // Running reconciles get half a minute, the lease is given away after their last write.
    std::atomic<bool> ended{false};
    std::thread watchdog([&] {
      for (int i = 0; i < 300 && !ended; ++i) std::this_thread::sleep_for(milliseconds(100));
      if (!ended) ::_exit(1);
    });
    manager->Stop();
    ended = true;
    watchdog.join();
    if (options.leader_elect) elector.Release();
    const std::lock_guard lock(manager_mutex);
    manager.reset();
  }
  log("info", "stopped");
  return 0;
}

}  // namespace anneal::serve
