// All reconcilers of the operator, ready to be run by a kube::Manager.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "operator/controllers/progress_poller.h"
#include "operator/kube/child_cache.h"
#include "operator/kube/event_recorder.h"
#include "operator/kube/own_writes.h"
#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// What reconcilers work with.
struct Surroundings {
  kube::Api& api;
  const kube::Clock& clock;
  ProgressPoller& poller;
  kube::ChildCache* children = nullptr;     ///< fed by the manager's watches; null: pods are listed each time
  kube::OwnWrites* own_writes = nullptr;    ///< read by the manager's watches; null: each write is looked at again
  kube::EventRecorder* recorder = nullptr;  ///< null: no Events are made
  /// Told of each status that was written, and the one before; may be empty.
  std::function<void(const kube::Resource&, const kube::Json& before, const kube::Json& after)> written = {};
};

std::vector<std::unique_ptr<kube::Reconciler>> MakeReconcilers(const Surroundings& surroundings);

}  // namespace anneal::controllers
