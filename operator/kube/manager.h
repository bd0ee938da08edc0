// Runs reconcilers: list-watch of what each cares about, a work queue per kind, a few workers.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"
#include "operator/kube/work_queue.h"

namespace anneal::kube {

class Manager {
 public:
  /// `log` receives one line per failed reconcile.
  Manager(Api& api, std::vector<Reconciler*> reconcilers, int workers, std::function<void(const std::string&)> log);
  ~Manager();

  void Start();
  /// Ends watches, lets running reconciles finish.
  void Stop();
  /// Queues a key from outside (the progress poller).
  void Enqueue(const Resource& resource, const Key& key);

 private:
  struct Controller {
    Reconciler* reconciler;
    WorkQueue queue;
  };
  using Mapper = std::function<std::vector<Key>(const Json&)>;

  void Follow(const Resource& resource, WorkQueue& queue, const Mapper& mapper);
  void Work(Controller& controller);

  Api& api_;
  int workers_;
  std::function<void(const std::string&)> log_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
};

}  // namespace anneal::kube
