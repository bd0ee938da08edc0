// gather -> decide -> act for one kind; what differs between the kinds is in three virtual functions.
#pragma once

#include <chrono>
#include <string>

#include "operator/controllers/controllers.h"
#include "operator/controllers/decide.h"
#include "operator/controllers/policies/pod_problems.h"
#include "operator/controllers/progress_poller.h"
#include "operator/controllers/run_snapshot.h"
#include "operator/controllers/worker_pod.h"
#include "operator/kube/event_recorder.h"
#include "operator/kube/reconciler.h"

namespace anneal::controllers {

class JobReconciler : public kube::Reconciler {
 public:
  /// `resource`: one of kube::resources, which last.
  JobReconciler(const Surroundings& surroundings, const kube::Resource& resource)
      : api_(surroundings.api),
        clock_(surroundings.clock),
        poller_(surroundings.poller),
        children_(surroundings.children),
        own_writes_(surroundings.own_writes),
        recorder_(surroundings.recorder),
        written_(surroundings.written),
        resource_(resource) {}

  const kube::Resource& resource() const override { return resource_; }
  std::vector<kube::Resource> owns() const override { return {kube::resources::kPod}; }
  kube::ReconcileResult Reconcile(const kube::Key& key) override;
  kube::ReconcileResult Welcome(const kube::Key& key) override;

 protected:
  /// Resolves what a run would be made from now.
  virtual RunInputs Gather(const kube::Json& job) = 0;
  /// The workers of the run in job.status.run.
  virtual WorkerPlan Plan(const kube::Json& job) = 0;
  virtual KindTraits Traits(const kube::Json& job) = 0;
  /// Objects of the run beyond Service and config snapshot.
  virtual void PrepareMore(const kube::Json&) {}

  /// Whether spec.config names a config, not only edits.
  static bool HasOwnConfig(const kube::Json& job);
  /// The text of spec.config, or what is missing in `inputs`. Checks that it is a valid pipeline.config.
  bool ResolveConfig(const kube::Json& job, RunInputs& inputs);
  /// Creates an object of the job; one that is there already (then false) has to be the job's own.
  bool Ensure(const kube::Resource& resource, const kube::Json& job, const kube::Json& object);

  kube::Api& api_;
  const kube::Clock& clock_;

 private:
  kube::ReconcileResult Look(const kube::Json& found);
  kube::ReconcileResult ReconcileJob(const kube::Json& found, const kube::Json& job);
  std::vector<kube::Json> PodsOf(const kube::Json& job);
  void ConfirmPods(Observed& observed);
  kube::Json OwnOne(const kube::Resource& resource, const kube::Json& job, const kube::Json& object);
  bool MakePod(const kube::Json& job, const kube::Json& pod);
  bool WriteStatus(const kube::Json& found, const kube::Json& status, kube::Json& job);
  void Tell(const kube::Json& job, const kube::Json& before, const kube::Json& after);
  void Report(const kube::Json& job, const PodProblem& problem);
  void RefuseSpec(const kube::Json& found, const std::string& faults);
  void Remove(const kube::Resource& resource, const kube::Json& object, std::optional<int64_t> grace);
  void ForgetRuns(const kube::Json& job, int first);
  kube::Json AsBegun(const kube::Json& job, const std::string& hash);
  std::optional<RunSnapshot> SnapshotOf(const kube::Json& job);
  bool KeepSnapshot(const kube::Json& job, bool begun, const RunInputs& inputs);
  std::optional<std::string> RunConfig(const kube::Json& job, const RunInputs& inputs);
  static bool Owns(const kube::Json& job, const kube::Json& object);
  bool Act(const kube::Json& job, bool fresh, const Decision& decision, const RunInputs& inputs);

  ProgressPoller& poller_;
  kube::ChildCache* children_;
  kube::OwnWrites* own_writes_;
  kube::EventRecorder* recorder_;
  std::function<void(const kube::Resource&, const kube::Json&, const kube::Json&)> written_;
  const kube::Resource& resource_;
};

/// Arguments of `anneal launch` for a run's workers, up to the "--".
std::vector<std::string> LaunchArguments(const kube::Json& job);

/// --edit_config_json of a run: the source's edits, then `edits`.
std::string EditJson(const kube::Json& first, const kube::Json& second);

}  // namespace anneal::controllers
