// The three kinds.
#pragma once

#include "operator/controllers/job_reconciler.h"
#include "operator/controllers/source_model.h"

namespace anneal::controllers {

class TrainJobReconciler : public JobReconciler {
 public:
  explicit TrainJobReconciler(const Surroundings& surroundings)
      : JobReconciler(surroundings, kube::resources::kTrainJob) {}
  std::vector<kube::Resource> refers_to() const override;
  std::vector<kube::Reference> References(const kube::Json& job) const override;

 protected:
  RunInputs Gather(const kube::Json& job) override;
  WorkerPlan Plan(const kube::Json& job) override;
  KindTraits Traits(const kube::Json& job) override;
  void PrepareMore(const kube::Json& job) override;

 private:
  static void AddWarmStart(WorkerPlan& plan, const kube::Json& job);
};

/// Follows the runs of its TrainJob, or evaluates one checkpoint.
class EvalJobReconciler : public JobReconciler {
 public:
  explicit EvalJobReconciler(const Surroundings& surroundings)
      : JobReconciler(surroundings, kube::resources::kEvalJob) {}
  std::vector<kube::Resource> refers_to() const override;
  std::vector<kube::Reference> References(const kube::Json& job) const override;

 protected:
  RunInputs Gather(const kube::Json& job) override;
  WorkerPlan Plan(const kube::Json& job) override;
  KindTraits Traits(const kube::Json& job) override;
};

/// Follows the passed gates of an EvalJob or the runs of a TrainJob, or exports one checkpoint.
class ExportJobReconciler : public JobReconciler {
 public:
  explicit ExportJobReconciler(const Surroundings& surroundings)
      : JobReconciler(surroundings, kube::resources::kExportJob) {}
  std::vector<kube::Resource> refers_to() const override;
  std::vector<kube::Reference> References(const kube::Json& job) const override;

 protected:
  RunInputs Gather(const kube::Json& job) override;
  WorkerPlan Plan(const kube::Json& job) override;
  KindTraits Traits(const kube::Json& job) override;

 private:
  RunInputs Use(const kube::Json& job, const SourceModel& model);
};

}  // namespace anneal::controllers
