#include "operator/controllers/decide.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/controllers/policies/cleanup.h"
#include "operator/controllers/policies/failure_policy.h"
#include "operator/controllers/policies/lost_worker.h"
#include "operator/controllers/policies/pod_problems.h"
#include "operator/controllers/policies/progress.h"
#include "operator/controllers/policies/run_start.h"
#include "operator/controllers/policies/timeouts.h"
#include "operator/controllers/policies/worker_count.h"

namespace anneal::controllers {
namespace {

using api::Readiness;
using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A run is looked at again at the latest then, and one that has ended once more so long after its end: an event that
/// came before what it told could be read costs minutes.
constexpr std::chrono::minutes kNet{10};

/// Pods that have to be gone are looked for again then: one that an old answer showed is gone already, and no event
/// comes.
constexpr seconds kOlderPods{30};

const char* kRunRequested = "anneal.dev/run-requested-at";

class Decider {
 public:
  Decider(const Observed& observed, const KindTraits& traits)
      : observed_(observed), traits_(traits), spec_(&observed.job["spec"]), now_(observed.now) {
    decision_.status = observed.job.value("status", Json::object());
    generation_ = observed.job["metadata"].value("generation", int64_t{1});
    give_up_ = seconds(spec()["failurePolicy"].value("nodeLostTimeoutSeconds", int64_t{300}));
  }

  Decision Run() {
    if (observed_.job["metadata"].contains("deletionTimestamp")) return std::move(decision_);
    status()["observedGeneration"] = generation_;
    if (!StartRun()) return std::move(decision_);
    SplitPods();
    if (Ended()) {
      if (const auto end = kube::ParseTime(run().value("completionTime", "")); end && now_ < *end + kNet)
        LookAgain(std::chrono::duration_cast<milliseconds>(*end + kNet - now_));
      Cleanup();
    } else if (spec().value("suspend", false)) {
      Suspend();
    } else {
      Progress();
    }
    return std::move(decision_);
  }

 private:
  Json& status() { return decision_.status; }
  Json& run() { return decision_.status["run"]; }
  /// Of the run: the one before a run that begins now has another.
  const Json& spec() { return *spec_; }
  int Nodes() { return spec()["workers"]["numNodes"]; }
  std::string Phase() { return status().value("phase", ""); }
  bool Ended() { return RunHasEnded(status()); }

  void Condition(const char* type, bool value, const std::string& reason, const std::string& message) {
    api::SetCondition(status(), type, value, reason, message, generation_, now_);
  }
  void Ready(const Readiness& readiness, const std::string& reason, const std::string& message) {
    api::SetReadiness(status(), readiness, reason, message, generation_, now_);
  }
  void LookAgain(std::optional<milliseconds> wait) {
    if (!wait) return;
    const milliseconds next = std::max(*wait, milliseconds(50));
    decision_.requeue_after = std::min(decision_.requeue_after.value_or(next), next);
  }

  /// False: there is no run, and none can begin yet.
  bool StartRun() {
    const RunInputs& inputs = observed_.inputs;
    Wish wish;
    wish.hash = observed_.hash;
    wish.requested = observed_.job["metadata"].value("annotations", Json::object()).value(kRunRequested, "");
    const bool started = status().contains("run") && HasStarted(run(), observed_.pods, Nodes());
    switch (WantsRun(status(), spec(), wish, traits_.rerun_on_change, started)) {
      case NextRun::kQueued:
        Condition("SpecChangePending", true, "Queued", "a newer spec waits for the end of this run");
        return true;
      case NextRun::kNone:
        if (api::IsTrue(status(), "SpecChangePending")) Condition("SpecChangePending", false, "NotPending", "");
        return true;
      case NextRun::kBegin:
        if (!inputs.ready) return Blocked();
        BeginRun(status(), observed_.job, inputs, wish, now_);
        decision_.begun = true;
        asked_for_older_ = !run().contains("olderPods");
        spec_ = &observed_.wanted;
    }
    return true;
  }

  bool Blocked() {
    const RunInputs& inputs = observed_.inputs;
    if (status().contains("run") && Ended()) return false;  // what has ended stays until the source is there again
    status()["phase"] = inputs.invalid ? "Failed" : "Pending";
    Ready({false, !inputs.stalled, inputs.stalled}, inputs.reason, inputs.message);
    if (inputs.invalid) {
      Condition("Failed", true, inputs.reason, inputs.message);
      status()["failure"] = {{"reason", inputs.reason}, {"message", inputs.message}};
    } else {
      LookAgain(seconds(30));
    }
    return false;
  }

  void SplitPods() {
    for (const Json& pod : observed_.pods) (IsOfAttempt(pod, run()) ? current_ : older_).push_back(pod);
    std::sort(current_.begin(), current_.end(), [](const Json& a, const Json& b) {
      return PodNumber(a, "anneal.dev/index") < PodNumber(b, "anneal.dev/index");
    });
  }

  /// When a pod that may have to be given up is due.
  void LookAgainWhenDue(const std::optional<kube::Clock::Time>& due) {
    if (due) LookAgain(std::chrono::duration_cast<milliseconds>(*due - now_) + milliseconds(500));
  }

  /// Pods that will not end by themselves any more are forced; one that may become such is looked at again.
  void Remove(const std::vector<Json>& pods) {
    for (const Json& pod : pods) {
      const auto due = GiveUpTime(pod, give_up_);
      if (due && *due <= now_) {
        decision_.force.push_back(pod);
        continue;
      }
      LookAgainWhenDue(due);
      if (!IsTerminating(pod)) decision_.remove.push_back(pod);
    }
  }

  void Count() { status()["workers"] = WorkersStatus(CountWorkers(current_, Nodes())); }

  void Suspend() {
    Remove(current_);
    Remove(older_);
    Count();
    const bool gone = observed_.pods.empty();
    status()["phase"] = gone ? "Suspended" : "Suspending";
    Condition("Suspended", true, "SuspendedByUser", "spec.suspend is true");
    Condition("WorkersReady", false, "Suspended", "");
    api::RemoveCondition(status(), "Progressing");
    Ready({false, !gone, false}, "Suspended", "suspended by spec.suspend");
    if (!gone) LookAgain(kOlderPods);
  }

  void NextAttempt(seconds wait) {
    run()["olderPods"] = OlderPods(run(), Nodes());
    run()["attempt"] = run()["attempt"].get<int>() + 1;
    run()["attemptTime"] = kube::FormatTime(now_);
    run()["nextAttemptTime"] = kube::FormatTime(now_ + wait);
    run().erase("createdAttempt");
    run().erase("attemptRunningTime");
    asked_for_older_ = false;
    api::RemoveCondition(status(), "Progressing");
    older_.insert(older_.end(), current_.begin(), current_.end());
    current_.clear();
  }

  void Progress() {
    if (Phase() == "Suspended" || Phase() == "Suspending") {
      NextAttempt(seconds(0));
      Condition("Suspended", false, "Resumed", "");
      status()["phase"] = "Pending";
      run()["startTime"] = kube::FormatTime(now_);  // deadlines start anew
    }
    if (observed_.progress.is_object() && !current_.empty())
      TakeProgress(status(), observed_.progress, generation_, now_);
    if (Judge()) return Count();
    const std::string waiting = Phase() == "Restarting" ? "Restarting" : "Starting";
    if (!older_.empty()) {
      Remove(older_);
      Count();
      status()["phase"] = waiting;
      Condition("WorkersReady", false, "WaitingForTermination", "pods of an older attempt are still there");
      Ready({}, waiting, "waiting for " + std::to_string(older_.size()) + " older pods to be gone");
      LookAgain(kOlderPods);
      return;
    }
    if (WaitForAttempt()) return Count();
    CreateMissing();
    Count();
    const WorkerCount workers = CountWorkers(current_, Nodes());
    ReportWorkers(status(), current_, workers, generation_, now_);
    const bool all = workers.all_run();
    status()["phase"] = all ? "Running" : waiting;
    if (all) {
      for (const char* since : {"runningTime", "attemptRunningTime"}) {
        if (!run().contains(since)) run()[since] = kube::FormatTime(now_);
      }
      TellProgress();
    }
    EndWhenLate(all);
    LookAgain(kNet);
  }

  void TellProgress() {
    if (!traits_.steps) return;
    const ProgressVerdict progress = JudgeProgress(spec(), status(), now_);
    Condition("Progressing", progress.moves, progress.reason, progress.message);
    LookAgain(progress.look_again);
  }

  bool WaitForAttempt() {
    const auto due = kube::ParseTime(run().value("nextAttemptTime", ""));
    if (!due || *due <= now_) return false;
    const std::string at = run()["nextAttemptTime"];
    status()["phase"] = "Restarting";
    Condition("WorkersReady", false, "BackOff", "next attempt at " + at);
    Ready({}, "Restarting", "attempt " + run()["attempt"].dump() + " starts at " + at);
    LookAgain(std::chrono::duration_cast<milliseconds>(*due - now_));
    return true;
  }

  void CreateMissing() {
    // Whoever gathered the pods did not know yet which ones have to be gone by name.
    if (!asked_for_older_) return LookAgain(milliseconds(0));
    const int nodes = Nodes();
    std::vector<bool> there(nodes, false);
    for (const Json& pod : current_) {
      const int index = PodNumber(pod, "anneal.dev/index");
      if (index >= 0 && index < nodes) there[index] = true;
    }
    for (int i = 0; i < nodes; ++i) {
      if (!there[i]) decision_.create.push_back(i);
    }
    if (!decision_.create.empty()) return;
    run()["createdAttempt"] = run()["attempt"];
    run().erase("olderPods");
    run().erase("blocked");
  }

  /// Success or failure of the attempt; false: it goes on.
  bool Judge() {
    const Json& policy = spec()["failurePolicy"];
    if (const auto failures = FindFailures(current_); !failures.empty()) {
      if (const auto due = CulpritDue(failures, static_cast<int>(current_.size()), now_)) {
        LookAgainWhenDue(due);
        return true;
      }
      Restart(JudgeFailure(policy, failures));
      return true;
    }
    if (CountWorkers(current_, Nodes()).succeeded == Nodes()) {
      Complete();
      if (Ended()) Cleanup();
      return true;
    }
    const bool complete = run().value("createdAttempt", 0) == run()["attempt"];
    const auto lost = FindLostWorker(current_, Nodes(), complete, give_up_, now_);
    if (lost) {
      Restart(JudgeFailure(policy, {*lost}));
    } else {
      for (const Json& pod : current_) {
        if (!HasEnded(pod)) LookAgainWhenDue(GiveUpTime(pod, give_up_));  // a silent node sends no event
      }
    }
    return lost.has_value();
  }

  void Restart(const FailureVerdict& verdict) {
    const Json& policy = spec()["failurePolicy"];
    const int counted = run().value("countedRestarts", 0);
    const int64_t most = policy.value("maxRestarts", int64_t{3});
    if (verdict.action == FailureAction::kFail) return Fail(verdict.reason, verdict.message, verdict.blamed);
    const bool counts = verdict.action == FailureAction::kRestart;
    if (counts && counted >= most) {
      return Fail("MaxRestartsExceeded", "after " + std::to_string(counted) + " restarts: " + verdict.message,
                  verdict.blamed);
    }
    status()["problems"] = Json::array({{{"rank", verdict.blamed.index},
                                         {"pod", verdict.blamed.pod},
                                         {"node", verdict.blamed.node},
                                         {"reason", verdict.reason},
                                         {"exitCode", verdict.blamed.exit_code},
                                         {"message", verdict.message}}});
    run()["restarts"] = run().value("restarts", 0) + 1;
    if (counts) run()["countedRestarts"] = counted + 1;
    run()["backOffs"] = counts ? BackOffs(policy, run(), now_) : run().value("backOffs", 0);
    AvoidNode(policy, verdict, run());
    NextAttempt(RestartBackoff(policy, counts ? run()["backOffs"].get<int>() : 1));
    Remove(older_);
    // Without the silent one no other can finish its step: their checkpoint is not worth waiting for.
    if (verdict.blamed.reason == "NodeLost" || verdict.blamed.reason == "HangTimeout")
      decision_.grace = std::min<int64_t>(30, spec()["workers"]["terminationGracePeriodSeconds"]);
    status()["phase"] = "Restarting";
    Condition("WorkersReady", false, verdict.reason, verdict.message);
    Ready({}, "Restarting", verdict.message);
    LookAgain(milliseconds(100));
  }

  void Fail(const std::string& reason, const std::string& message, const WorkerFailure& blamed) {
    status()["phase"] = "Failed";
    run()["completionTime"] = kube::FormatTime(now_);
    status()["failure"] = {{"reason", reason}, {"message", message.substr(0, 1024)}};
    if (!blamed.pod.empty()) {
      status()["failure"]["rank"] = blamed.index;
      status()["failure"]["pod"] = blamed.pod;
      status()["failure"]["exitCode"] = blamed.exit_code;
    }
    Condition("Failed", true, reason, message);
    Condition("WorkersReady", false, "RunFailed", "");
    api::RemoveCondition(status(), "Progressing");
    Ready({false, false, true}, reason, message);
    decision_.create.clear();
    decision_.requeue_after = milliseconds(50);  // the terminal state is written first, the cleanup follows
  }

  void Complete() {
    const auto first = std::find_if(current_.begin(), current_.end(),
                                    [](const Json& pod) { return PodNumber(pod, "anneal.dev/index") == 0; });
    Json message = Json::object();
    if (first != current_.end()) {
      const Json ended = WorkerTermination(*first);
      if (ended.is_object()) message = Json::parse(ended.value("message", ""), nullptr, false);
      if (!message.is_object()) message = Json::object();
    }
    TakeResult(status(), message, generation_, now_);
    if (status()["progress"].contains("percent"))
      status()["progress"]["percent"] = "100%";  // the last look was before the end
    status()["phase"] = "Complete";
    run()["completionTime"] = kube::FormatTime(now_);
    Condition("WorkersReady", false, "RunComplete", "");
    api::RemoveCondition(status(), "Progressing");
    Ready({true, false, false}, "RunComplete", "run " + run()["number"].dump() + " is complete");
    const std::string problem = traits_.complete(status(), message);
    if (!problem.empty()) return Fail("ResultMissing", problem, {});
    Condition("Complete", true, "AllWorkersSucceeded", "");
    status().erase("problems");
    LookAgain(milliseconds(50));  // a run that has waited for this end follows
  }

  void EndWhenLate(bool all_run) {
    const TimeoutVerdict verdict = CheckTimeouts(spec(), status(), all_run, now_);
    LookAgain(verdict.look_again);
    if (verdict.reason.empty()) return;
    if (verdict.reason != "HangTimeout") return Fail(verdict.reason, verdict.message, {});
    WorkerFailure hang;
    hang.reason = verdict.reason;
    hang.message = verdict.message;
    hang.lost = true;
    Restart(JudgeFailure(spec()["failurePolicy"], {hang}));
  }

  void Cleanup() {
    const CleanupVerdict verdict = JudgeCleanup(spec(), run(), observed_.pods, now_);
    Remove(verdict.pods);
    decision_.remove_run_objects = verdict.run_objects;
    LookAgain(verdict.look_again);
  }

  const Observed& observed_;
  const KindTraits& traits_;
  const Json* spec_;
  const kube::Clock::Time now_;
  Decision decision_;
  int64_t generation_ = 1;
  seconds give_up_{300};
  bool asked_for_older_ = true;  ///< the pods of the attempt before this one would be among those observed
  std::vector<Json> current_, older_;
};

}  // namespace

Decision Decide(const Observed& observed, const KindTraits& traits) { return Decider(observed, traits).Run(); }

}  // namespace anneal::controllers
