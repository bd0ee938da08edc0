// The three kinds.
#pragma once

#include "operator/controllers/job_reconciler.h"

namespace anneal::controllers {

class TrainJobReconciler : public JobReconciler {
 public:
  TrainJobReconciler(kube::Api& api, const kube::Clock& clock, ProgressPoller& poller)
      : JobReconciler(api, clock, poller, kube::resources::kTrainJob) {}

 protected:
  RunInputs Gather(const kube::Json& job) override;
  WorkerPlan Plan(const kube::Json& job) override;
  KindTraits Traits(const kube::Json& job) override;
  void PrepareMore(const kube::Json& job) override;
};

/// Follows the runs of its TrainJob.
class EvalJobReconciler : public JobReconciler {
 public:
  EvalJobReconciler(kube::Api& api, const kube::Clock& clock, ProgressPoller& poller)
      : JobReconciler(api, clock, poller, kube::resources::kEvalJob) {}
  std::vector<std::pair<kube::Resource, std::function<std::vector<kube::Key>(const kube::Json&)>>> watches()
      const override;

 protected:
  RunInputs Gather(const kube::Json& job) override;
  WorkerPlan Plan(const kube::Json& job) override;
  KindTraits Traits(const kube::Json& job) override;

 private:
  /// EvalJobs whose gates are relative to that one.
  std::vector<kube::Key> RelativeTo(const kube::Json& baseline) const;
};

/// Follows the passed gates of an EvalJob, or the runs of a TrainJob.
class ExportJobReconciler : public JobReconciler {
 public:
  ExportJobReconciler(kube::Api& api, const kube::Clock& clock, ProgressPoller& poller)
      : JobReconciler(api, clock, poller, kube::resources::kExportJob) {}
  std::vector<std::pair<kube::Resource, std::function<std::vector<kube::Key>(const kube::Json&)>>> watches()
      const override;

 protected:
  RunInputs Gather(const kube::Json& job) override;
  WorkerPlan Plan(const kube::Json& job) override;
  KindTraits Traits(const kube::Json& job) override;
};

/// Keys of the jobs of `follower` whose source names that object: for watches().
std::vector<kube::Key> Followers(kube::Api& api, const kube::Resource& follower, const std::string& reference,
                                 const kube::Json& source);

}  // namespace anneal::controllers
