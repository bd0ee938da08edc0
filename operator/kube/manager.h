// Runs reconcilers: one list-watch per kind and namespace, a work queue per reconciler, a few workers.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/event_router.h"
#include "operator/kube/reconciler.h"
#include "operator/kube/work_queue.h"

namespace anneal::kube {

struct ManagerOptions {
  std::vector<std::string> namespaces{""};  ///< "" = all
  /// Children are listed and watched by this label only: what others own costs nothing.
  std::string child_selector;
  ChildCache* children = nullptr;   ///< is fed by the watches, if given
  OwnWrites* own_writes = nullptr;  ///< what the reconcilers tell to have written, if given
  int64_t page = 250;               ///< objects of one list request; bounds the memory of a list
  /// Field selector of objects that nobody has served yet. They are welcomed while the first lists are still under way;
  /// "" = they wait, and so they do where the server knows no such selector (before Kubernetes 1.31).
  std::string unserved;
  std::chrono::milliseconds first_backoff{800}, longest_backoff{30'000};
  /// After each reconcile.
  struct Reconciled {
    std::string kind, result;     ///< "success", "requeue_after", "requeue" or "error"
    double waited = 0, took = 0;  ///< seconds in the queue and at work
    bool unexpected = false;      ///< it threw what is no std::exception
    Key key;
    std::string error;  ///< what went wrong; empty unless the result is "error"
  };
  std::function<void(const Reconciled&)> reconciled;
  /// A watch began anew: plural, why.
  std::function<void(const std::string& plural, const std::string& reason)> reconnected;
};

/// Jobs are not kept (event_router.h): reconcilers read them from the API, so that nothing is decided on an old job.
class Manager {
 public:
  /// `log` receives one line per failed watch.
  Manager(Api& api, std::vector<Reconciler*> reconcilers, int workers, std::function<void(const std::string&)> log,
          ManagerOptions options = {});
  ~Manager();

  void Start();
  /// Ends watches, lets running reconciles finish.
  void Stop();
  /// Queues a key from outside (the progress poller).
  void Enqueue(const Resource& resource, const Key& key);
  /// Every kind was listed once; no reconcile runs before, only welcomes.
  bool synced() const { return unlisted_ == 0; }
  /// Of each kind, for metrics.
  struct KindState {
    std::string kind;
    WorkQueue::State queue;
    std::map<std::string, size_t> phases;  ///< objects by status.phase
  };
  std::vector<KindState> kinds() const;
  /// Objects followed.
  size_t followed() const { return router_.size(); }

 private:
  struct Controller {
    Reconciler* reconciler;
    WorkQueue queue;
  };
  /// One kind in one namespace ("" = all).
  struct Source {
    size_t number;
    std::string ns, selector;
  };

  void Queue(const std::vector<EventRouter::Wake>& wakes, WorkQueue::Priority priority);
  void Follow(const Source& source);
  std::string Relist(const Source& source, bool first);
  /// Handles events until the stream ends; false = the version is too old, list again.
  bool Drain(const Source& source, Watch& watch, std::string& version, size_t& events);
  void Wait(std::chrono::milliseconds time);
  void Work(Controller& controller);
  void Welcome(Controller& controller, const std::string& ns);
  void Handle(Controller& controller, const Key& key, double waited, ReconcileResult (Reconciler::*look)(const Key&));

  Api& api_;
  int workers_;
  std::function<void(const std::string&)> log_;
  ManagerOptions options_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  EventRouter router_;
  std::vector<Source> sources_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> unlisted_{1};  ///< sources
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace anneal::kube
