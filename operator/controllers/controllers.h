// All reconcilers of the operator, ready to be run by a kube::Manager.
#pragma once

#include <memory>
#include <vector>

#include "operator/controllers/progress_poller.h"
#include "operator/kube/event_recorder.h"
#include "operator/kube/reconciler.h"

namespace anneal::controllers {

/// Without a recorder no Events are made.
std::vector<std::unique_ptr<kube::Reconciler>> MakeReconcilers(kube::Api& api, const kube::Clock& clock,
                                                               ProgressPoller& poller,
                                                               kube::EventRecorder* recorder = nullptr);

}  // namespace anneal::controllers
