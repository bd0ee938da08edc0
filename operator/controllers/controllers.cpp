#include "operator/controllers/controllers.h"

#include "operator/controllers/reconcilers.h"

namespace anneal::controllers {

std::vector<std::unique_ptr<kube::Reconciler>> MakeReconcilers(const Surroundings& surroundings) {
  std::vector<std::unique_ptr<kube::Reconciler>> reconcilers;
  reconcilers.push_back(std::make_unique<TrainJobReconciler>(surroundings));
  reconcilers.push_back(std::make_unique<EvalJobReconciler>(surroundings));
  reconcilers.push_back(std::make_unique<ExportJobReconciler>(surroundings));
  return reconcilers;
}

}  // namespace anneal::controllers
