#include "operator/controllers/controllers.h"

#include "operator/controllers/reconcilers.h"

namespace anneal::controllers {

std::vector<std::unique_ptr<kube::Reconciler>> MakeReconcilers(kube::Api& api, const kube::Clock& clock,
                                                               ProgressPoller& poller, kube::EventRecorder* recorder) {
  std::vector<std::unique_ptr<kube::Reconciler>> reconcilers;
  reconcilers.push_back(std::make_unique<TrainJobReconciler>(api, clock, poller, recorder));
  reconcilers.push_back(std::make_unique<EvalJobReconciler>(api, clock, poller, recorder));
  reconcilers.push_back(std::make_unique<ExportJobReconciler>(api, clock, poller, recorder));
  return reconcilers;
}

}  // namespace anneal::controllers
