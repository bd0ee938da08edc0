#include "operator/controllers/decide.h"

#include <algorithm>

#include "operator/api/conditions.h"
#include "operator/api/spec_hash.h"
#include "operator/controllers/policies/failure_policy.h"
#include "operator/controllers/policies/pod_problems.h"
#include "operator/controllers/policies/progress.h"

namespace anneal::controllers {
namespace {

using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;

const char* kRunRequested = "anneal.dev/run-requested-at";

int Label(const Json& pod, const char* name) { return std::atoi(pod["metadata"]["labels"].value(name, "0").c_str()); }
std::string PodPhase(const Json& pod) { return pod.value("status", Json::object()).value("phase", "Pending"); }
bool Terminating(const Json& pod) { return pod["metadata"].contains("deletionTimestamp"); }

class Decider {
 public:
  Decider(const Observed& observed, const KindTraits& traits)
      : observed_(observed), traits_(traits), spec_(observed.job["spec"]) {
    decision_.status = observed.job.value("status", Json::object());
    generation_ = observed.job["metadata"].value("generation", int64_t{1});
    requested_ = observed.job["metadata"].value("annotations", Json::object()).value(kRunRequested, "");
  }

  Decision Run() {
    if (observed_.job["metadata"].contains("deletionTimestamp")) return std::move(decision_);
    Json& status = decision_.status;
    status["observedGeneration"] = generation_;
    hash_ = observed_.inputs.ready ? api::SpecHash(traits_.resource, spec_, observed_.inputs.identity) : "";
    if (WantsNewRun()) {
      if (!observed_.inputs.ready) {
        Blocked();
        return std::move(decision_);
      }
      BeginRun();
    }
    SplitPods();
    if (Ended()) {
      Cleanup();
    } else if (spec_.value("suspend", false)) {
      Suspend();
    } else {
      Progress();
    }
    return std::move(decision_);
  }

 private:
  Json& status() { return decision_.status; }
  Json& run() { return decision_.status["run"]; }
  bool HasRun() { return status().contains("run") && status()["run"].is_object(); }
  std::string Phase() { return status().value("phase", ""); }
  bool Ended() { return Phase() == "Complete" || Phase() == "Failed"; }

  void Condition(const char* type, bool value, const std::string& reason, const std::string& message) {
    api::SetCondition(status(), type, value, reason, message, generation_, observed_.now);
  }

  /// The three conditions that GitOps tools read (kstatus).
  void Trio(bool ready, bool reconciling, bool stalled, const std::string& reason, const std::string& message) {
    Condition("Ready", ready, reason, message);
    Condition("Reconciling", reconciling, reason, message);
    Condition("Stalled", stalled, reason, message);
  }

  bool WantsNewRun() {
    if (!HasRun()) return true;
    const bool changed = !hash_.empty() && run().value("specHash", "") != hash_;
    const bool asked = !requested_.empty() && run().value("requestedAt", "") != requested_;
    if (Ended()) return asked || (changed && traits_.rerun_on_change);
    if (Phase() == "Suspended") return changed;  // nothing runs: the new spec is simply taken
    const std::string policy = spec_.value("updatePolicy", Json::object()).value("running", "Queue");
    if (!changed) {
      if (api::FindCondition(status(), "SpecChangePending").is_object()) {
        Condition("SpecChangePending", false, "NotPending", "");
      }
      return false;
    }
    // A run that never had all its workers has nothing to finish: a wrong image must not keep its correction waiting.
    if (policy == "Restart" || (policy == "Queue" && !Started())) return true;
    if (policy == "Queue") Condition("SpecChangePending", true, "Queued", "a newer spec waits for the end of this run");
    return false;
  }

  /// Whether all workers of the run have ever run, also if that happened while no operator looked.
  bool Started() {
    if (run().contains("runningTime")) return true;
    const auto begun = std::count_if(observed_.pods.begin(), observed_.pods.end(), [&](const Json& pod) {
      return PodPhase(pod) != "Pending" && Label(pod, "anneal.dev/attempt") == run()["attempt"];
    });
    return begun >= status().value("workers", Json::object()).value("desired", traits_.pods);
  }

  void Blocked() {
    const RunInputs& inputs = observed_.inputs;
    if (HasRun() && Ended()) return;  // what has ended stays as it is until the source is there again
    status()["phase"] = inputs.invalid ? "Failed" : "Pending";
    Trio(false, !inputs.stalled, inputs.stalled, inputs.reason, inputs.message);
    if (inputs.invalid) {
      Condition("Failed", true, inputs.reason, inputs.message);
      status()["failure"] = {{"reason", inputs.reason}, {"message", inputs.message}};
    } else {
      decision_.requeue_after = seconds(30);
    }
  }

  void BeginRun() {
    int number = 1;
    Json previous;  // where a warm start finds weights
    if (HasRun()) {
      number = run().value("number", 0) + 1;
      PushHistory();
      const Json last = status().value("progress", Json::object()).value("lastCheckpoint", Json::object());
      previous = last.contains("step") ? Json{{"run", run()["number"]}, {"step", last["step"]}}
                                       : run().value("previous", Json());
    }
    const std::string trigger = number == 1                            ? "Initial"
                                : run().value("specHash", "") != hash_ ? "SpecChange"
                                                                       : "Annotation";
    status()["run"] = {{"number", number},
                       {"id", "r" + std::to_string(number)},
                       {"specHash", hash_},
                       {"configHash", api::Sha256(observed_.inputs.config)},
                       {"inputs", observed_.inputs.identity},
                       {"trigger", trigger},
                       {"attempt", 1},
                       {"restarts", 0},
                       {"countedRestarts", 0},
                       {"startTime", kube::FormatTime(observed_.now)},
                       {"attemptTime", kube::FormatTime(observed_.now)}};
    if (!requested_.empty()) run()["requestedAt"] = requested_;
    if (previous.is_object()) run()["previous"] = previous;
    if (observed_.inputs.facts.is_object()) run()["facts"] = observed_.inputs.facts;
    status()["phase"] = "Pending";
    for (const char* stale : {"progress", "failure", "problems", "artifact", "gates", "gate", "checkpoint"}) {
      status().erase(stale);
    }
    for (const char* stale : {"Complete", "Failed", "GatePassed", "Verified", "Published", "SpecChangePending",
                              "CheckpointAvailable", "Admitted"}) {
      api::RemoveCondition(status(), stale);
    }
  }

  void PushHistory() {
    Json entry = {{"number", run()["number"]},
                  {"specHash", run()["specHash"]},
                  {"result", Phase()},
                  {"startTime", run().value("startTime", "")},
                  {"completionTime", run().value("completionTime", "")}};
    const Json progress = status().value("progress", Json::object());
    if (progress.contains("metrics")) entry["finalMetrics"] = progress["metrics"];
    if (progress.contains("lastCheckpoint")) entry["checkpoint"] = progress["lastCheckpoint"];
    Json& history = status()["history"];
    if (!history.is_array()) history = Json::array();
    history.insert(history.begin(), entry);
    const size_t limit = spec_.value("historyLimit", size_t{5});
    while (history.size() > limit) history.erase(history.size() - 1);
  }

  void SplitPods() {
    for (const Json& pod : observed_.pods) {
      const bool current =
          Label(pod, "anneal.dev/run") == run()["number"] && Label(pod, "anneal.dev/attempt") == run()["attempt"];
      (current ? current_ : older_).push_back(pod);
    }
    std::sort(current_.begin(), current_.end(),
              [](const Json& a, const Json& b) { return Label(a, "anneal.dev/index") < Label(b, "anneal.dev/index"); });
  }

  void Remove(const std::vector<Json>& pods) {
    for (const Json& pod : pods) {
      if (Abandoned(pod)) {
        decision_.force.push_back(pod);
      } else if (!Terminating(pod)) {
        decision_.remove.push_back(pod);
      }
    }
  }

  /// A pod that will not end by itself any more; else looks again when it may be one.
  bool Abandoned(const Json& pod) {
    const auto due = GiveUpTime(pod, seconds(spec_["failurePolicy"].value("nodeLostTimeoutSeconds", int64_t{300})));
    if (!due) return false;
    if (*due <= observed_.now) return true;
    LookAgain(std::chrono::duration_cast<milliseconds>(*due - observed_.now) + milliseconds(500));
    return false;
  }

  void LookAgain(milliseconds wait) {
    wait = std::max(wait, milliseconds(50));
    if (!decision_.requeue_after || wait < *decision_.requeue_after) decision_.requeue_after = wait;
  }

  void CountWorkers() {
    int pending = 0, running = 0, succeeded = 0, failed = 0, terminating = 0;
    for (const Json& pod : current_) {
      const std::string phase = PodPhase(pod);
      if (Terminating(pod)) ++terminating;
      if (phase == "Running") ++running;
      if (phase == "Pending") ++pending;
      if (phase == "Succeeded") ++succeeded;
      if (phase == "Failed") ++failed;
    }
    status()["workers"] = {{"desired", traits_.pods},
                           {"pending", pending},
                           {"running", running},
                           {"succeeded", succeeded},
                           {"failed", failed},
                           {"terminating", terminating},
                           {"summary", std::to_string(running) + "/" + std::to_string(traits_.pods)}};
  }

  void Suspend() {
    Remove(current_);
    Remove(older_);
    CountWorkers();
    const bool gone = observed_.pods.empty();
    status()["phase"] = gone ? "Suspended" : "Suspending";
    Condition("Suspended", true, "SuspendedByUser", "spec.suspend is true");
    Condition("WorkersReady", false, "Suspended", "");
    Trio(false, !gone, false, "Suspended", "suspended by spec.suspend");
  }

  void NextAttempt(std::chrono::seconds wait) {
    run()["attempt"] = run()["attempt"].get<int>() + 1;
    run()["attemptTime"] = kube::FormatTime(observed_.now);
    run().erase("createdAttempt");
    run()["nextAttemptTime"] = kube::FormatTime(observed_.now + wait);
    older_.insert(older_.end(), current_.begin(), current_.end());
    current_.clear();
  }

  void Progress() {
    if (Phase() == "Suspended" || Phase() == "Suspending") {
      NextAttempt(seconds(0));
      Condition("Suspended", false, "Resumed", "");
      status()["phase"] = "Pending";
      run()["startTime"] = kube::FormatTime(observed_.now);  // deadlines start anew
    }
    if (observed_.progress.is_object() && !current_.empty()) {
      TakeProgress(status(), observed_.progress, generation_, observed_.now);
    }
    if (Judge()) {
      CountWorkers();
      return;
    }
    if (Ended()) {
      CountWorkers();
      Cleanup();
      return;
    }
    const std::string waiting = status().value("phase", "") == "Restarting" ? "Restarting" : "Starting";
    if (!older_.empty()) {
      Remove(older_);
      CountWorkers();
      status()["phase"] = waiting;
      Condition("WorkersReady", false, "WaitingForTermination", "pods of an older attempt are still there");
      Trio(false, true, false, waiting, "waiting for " + std::to_string(older_.size()) + " older pods to be gone");
      return;
    }
    if (const auto wait = WaitForAttempt()) {
      CountWorkers();
      LookAgain(*wait);
      return;
    }
    CreateMissing();
    CountWorkers();
    const int running = status()["workers"]["running"];
    const bool all = running == traits_.pods;
    status()["phase"] = all ? "Running" : waiting;
    if (all && !run().contains("runningTime")) run()["runningTime"] = kube::FormatTime(observed_.now);
    ReportWorkers(all, running);
    CheckTimeouts(all);
  }

  void ReportWorkers(bool all, int running) {
    const std::string summary = std::to_string(running) + " of " + std::to_string(traits_.pods) + " workers run";
    const std::string doing = "run " + run()["number"].dump() + ", attempt " + run()["attempt"].dump();
    std::optional<PodProblem> problem = all ? std::nullopt : WhyWaiting(current_);
    // A create was refused: that is the news until all pods are there.
    if (!problem && run().contains("blocked"))
      problem = PodProblem{run()["blocked"]["reason"], run()["blocked"]["message"]};
    if (problem) {
      Condition("WorkersReady", false, problem->reason, problem->message);
      Trio(false, true, false, problem->reason, problem->message);
    } else {
      Condition("WorkersReady", all, all ? "AllRunning" : "Waiting", summary);
      Trio(false, true, false, all ? "RunInProgress" : "Creating", doing);
    }
    if (problem && problem->reason == "QuotaPending") {
      Condition("Admitted", false, "QuotaPending", problem->message);
    } else if (api::FindCondition(status(), "Admitted").is_object()) {
      Condition("Admitted", true, "QueueAdmitted", "");
    }
  }

  std::optional<milliseconds> WaitForAttempt() {
    const auto due = kube::ParseTime(run().value("nextAttemptTime", ""));
    if (!due || *due <= observed_.now) return std::nullopt;
    status()["phase"] = "Restarting";
    Condition("WorkersReady", false, "BackOff", "next attempt at " + run()["nextAttemptTime"].get<std::string>());
    Trio(false, true, false, "Restarting",
         "attempt " + run()["attempt"].dump() + " starts at " + run()["nextAttemptTime"].get<std::string>());
    return std::max(std::chrono::duration_cast<milliseconds>(*due - observed_.now), milliseconds(50));
  }

  void CreateMissing() {
    std::vector<bool> there(traits_.pods, false);
    for (const Json& pod : current_) {
      const int index = Label(pod, "anneal.dev/index");
      if (index >= 0 && index < traits_.pods) there[index] = true;
    }
    for (int i = 0; i < traits_.pods; ++i) {
      if (!there[i]) decision_.create.push_back(i);
    }
    if (!decision_.create.empty()) return;
    run()["createdAttempt"] = run()["attempt"];
    run().erase("blocked");
  }

  /// Success, failure, or neither (false): then the attempt goes on.
  bool Judge() {
    const auto failures = FindFailures(current_);
    if (!failures.empty()) {
      Restart(JudgeFailure(spec_["failurePolicy"], failures));
      return true;
    }
    const auto succeeded =
        std::count_if(current_.begin(), current_.end(), [](const Json& p) { return PodPhase(p) == "Succeeded"; });
    if (succeeded == traits_.pods && traits_.pods > 0) {
      Complete();
      return false;
    }
    if (const auto lost = FindLostPod()) {
      Restart(JudgeFailure(spec_["failurePolicy"], {*lost}));
      return true;
    }
    return false;
  }

  /// A worker taken from outside: its node is silent, it is being deleted (drain, preemption, a person), or it is gone.
  std::optional<WorkerFailure> FindLostPod() {
    for (const Json& pod : current_) {
      const std::string phase = PodPhase(pod);
      if (phase == "Succeeded" || phase == "Failed") continue;
      const bool silent = NodeSilentSince(pod).has_value() && Abandoned(pod);
      if (!silent && !Terminating(pod)) continue;
      const Json target = PodCondition(pod, "DisruptionTarget");
      WorkerFailure lost = FailureOf(pod);
      lost.reason = silent               ? "NodeLost"
                    : target.is_object() ? target.value("reason", "DisruptionTarget")
                                         : "PodDeleted";
      lost.message = silent ? "node " + lost.node + " is silent; is it powered off?"
                            : "the pod is being deleted" + (target.is_object() ? ": " + target.value("message", "")
                                                                               : std::string(" from outside"));
      lost.lost = true;
      return lost;
    }
    const bool created = run().value("createdAttempt", 0) == run()["attempt"];
    if (!created || static_cast<int>(current_.size()) >= traits_.pods) return std::nullopt;
    WorkerFailure gone;
    gone.reason = "PodDeleted";
    gone.message = "a worker pod was deleted from outside";
    gone.lost = true;
    return gone;
  }

  void Restart(const FailureVerdict& verdict) {
    const int counted = run().value("countedRestarts", 0);
    const int64_t most = spec_["failurePolicy"].value("maxRestarts", int64_t{3});
    if (verdict.action == FailureAction::kFail) return Fail(verdict.reason, verdict.message, verdict.blamed);
    if (verdict.action == FailureAction::kRestart && counted >= most) {
      return Fail("MaxRestartsExceeded", "after " + std::to_string(counted) + " restarts: " + verdict.message,
                  verdict.blamed);
    }
    Json& problems = status()["problems"] = Json::array();
    problems.push_back({{"rank", verdict.blamed.index},
                        {"pod", verdict.blamed.pod},
                        {"node", verdict.blamed.node},
                        {"reason", verdict.reason},
                        {"exitCode", verdict.blamed.exit_code},
                        {"message", verdict.message}});
    const int restarts = run().value("restarts", 0) + 1;
    run()["restarts"] = restarts;
    if (verdict.action == FailureAction::kRestart) run()["countedRestarts"] = counted + 1;
    NextAttempt(RestartBackoff(spec_["failurePolicy"], verdict.action == FailureAction::kRestart ? counted + 1 : 1));
    Remove(older_);
    // Without the silent one no other can finish its step: their checkpoint is not worth waiting for.
    if (verdict.blamed.reason == "NodeLost" || verdict.blamed.reason == "HangTimeout")
      decision_.grace = std::min<int64_t>(30, spec_["workers"]["terminationGracePeriodSeconds"]);
    status()["phase"] = "Restarting";
    Condition("WorkersReady", false, verdict.reason, verdict.message);
    Trio(false, true, false, "Restarting", verdict.message);
    LookAgain(milliseconds(100));
  }

  void Fail(const std::string& reason, const std::string& message, const WorkerFailure& blamed) {
    status()["phase"] = "Failed";
    run()["completionTime"] = kube::FormatTime(observed_.now);
    status()["failure"] = {{"reason", reason}, {"message", message.substr(0, 1024)}};
    if (!blamed.pod.empty()) {
      status()["failure"]["rank"] = blamed.index;
      status()["failure"]["pod"] = blamed.pod;
      status()["failure"]["exitCode"] = blamed.exit_code;
    }
    Condition("Failed", true, reason, message);
    Condition("WorkersReady", false, "RunFailed", "");
    Trio(false, false, true, reason, message);
    decision_.requeue_after = milliseconds(50);  // the terminal state is written first, the cleanup follows
  }

  void Complete() {
    Json message;
    for (const Json& pod : current_) {
      if (Label(pod, "anneal.dev/index") != 0) continue;
      const Json ended = WorkerTermination(pod);
      if (ended.is_object()) message = Json::parse(ended.value("message", ""), nullptr, false);
    }
    if (!message.is_object()) message = Json::object();
    TakeResult(status(), message, generation_, observed_.now);
    if (status()["progress"].contains("percent"))
      status()["progress"]["percent"] = "100%";  // the last look was before the end
    status()["phase"] = "Complete";
    run()["completionTime"] = kube::FormatTime(observed_.now);
    Condition("WorkersReady", false, "RunComplete", "");
    Trio(true, false, false, "RunComplete", "run " + run()["number"].dump() + " is complete");
    const std::string problem = traits_.complete(status(), message);
    if (!problem.empty()) return Fail("ResultMissing", problem, {});
    Condition("Complete", true, "AllWorkersSucceeded", "");
    status().erase("problems");
  }

  void CheckTimeouts(bool all_running) {
    auto since = [&](const std::string& text) {
      const auto time = kube::ParseTime(text);
      return time ? std::chrono::duration_cast<seconds>(observed_.now - *time) : seconds(0);
    };
    auto watch = [&](int64_t limit, seconds passed) { LookAgain(seconds(limit) - passed + milliseconds(500)); };
    if (spec_.contains("activeDeadlineSeconds")) {
      const int64_t limit = spec_["activeDeadlineSeconds"];
      const seconds passed = since(run().value("startTime", ""));
      if (passed >= seconds(limit))
        return Fail("DeadlineExceeded", "the run is older than activeDeadlineSeconds " + std::to_string(limit), {});
      watch(limit, passed);
    }
    const Json& policy = spec_["failurePolicy"];
    if (const int64_t limit = policy.value("pendingTimeoutSeconds", int64_t{0}); limit > 0 && !all_running) {
      const seconds passed = since(run().value("attemptTime", ""));
      if (passed >= seconds(limit)) {
        const Json ready = api::FindCondition(status(), "WorkersReady");
        return Fail("PendingTimeout",
                    "not all workers ran within " + std::to_string(limit) + " s: " + ready.value("message", ""), {});
      }
      watch(limit, passed);
    }
    if (const int64_t limit = policy.value("progressTimeoutSeconds", int64_t{0}); limit > 0 && all_running) {
      const std::string moved =
          status().value("progress", Json::object()).value("lastStepTime", run().value("runningTime", ""));
      const seconds passed = since(std::max(moved, run().value("attemptTime", "")));
      if (passed >= seconds(limit)) {
        WorkerFailure hang;
        hang.reason = "HangTimeout";
        hang.message = "the step did not move for " + std::to_string(limit) + " s";
        hang.lost = true;
        return Restart(JudgeFailure(policy, {hang}));
      }
      watch(limit, passed);
    }
  }

  void Cleanup() {
    const Json cleanup = spec_.value("cleanup", Json::object());
    const std::string policy = cleanup.value("podPolicy", "Running");
    for (const Json& pod : observed_.pods) {
      const std::string phase = PodPhase(pod);
      const bool ended = phase == "Succeeded" || phase == "Failed";
      const bool old =
          Label(pod, "anneal.dev/run") != run()["number"] || Label(pod, "anneal.dev/attempt") != run()["attempt"];
      if (policy == "All" || old || Terminating(pod) || (policy == "Running" && !ended)) Remove({pod});
    }
    if (!cleanup.contains("ttlSecondsAfterFinished")) return;
    const auto ended = kube::ParseTime(run().value("completionTime", ""));
    if (!ended) return;
    const auto due = *ended + seconds(cleanup["ttlSecondsAfterFinished"].get<int64_t>());
    if (due > observed_.now) {
      LookAgain(std::chrono::duration_cast<milliseconds>(due - observed_.now) + milliseconds(100));
      return;
    }
    decision_.remove.clear();
    decision_.force.clear();
    Remove(observed_.pods);
    decision_.remove_run_objects = true;
  }

  const Observed& observed_;
  const KindTraits& traits_;
  const Json& spec_;
  Decision decision_;
  int64_t generation_ = 1;
  std::string hash_, requested_;
  std::vector<Json> current_, older_;
};

}  // namespace

Decision Decide(const Observed& observed, const KindTraits& traits) { return Decider(observed, traits).Run(); }

}  // namespace anneal::controllers
