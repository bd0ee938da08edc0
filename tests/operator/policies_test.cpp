#include <gtest/gtest.h>

#include "operator/controllers/policies/failure_policy.h"
#include "operator/controllers/policies/gates.h"
#include "operator/controllers/policies/transitions.h"
#include "operator/local/pod_command.h"

namespace anneal::controllers {
namespace {

using kube::Json;

WorkerFailure Failed(int index, int code, const std::string& at) { return {index, "p" + std::to_string(index), "", "Error", "", code, at}; }

TEST(FailurePolicy, Blame) {
  EXPECT_EQ(Blame({Failed(0, 76, "1"), Failed(1, 1, "2")}).index, 1);
  EXPECT_EQ(Blame({Failed(0, 1, "3"), Failed(1, 137, "2")}).index, 1);
  EXPECT_EQ(Blame({Failed(0, 76, "2"), Failed(1, 76, "1")}).index, 1);
}

TEST(FailurePolicy, Verdicts) {
  const Json rules = Json::parse(R"({"rules":[{"name":"r","action":"Fail","onExitCodes":{"operator":"In","values":[9]}},
    {"name":"s","action":"RestartDoNotCount","onExitCodes":{"operator":"NotIn","values":[1,64,78,143]}}]})");
  struct Case {
    Json policy;
    int code;
    FailureAction action;
    const char* reason;
  };
  for (const Case& c : {Case{Json::object(), 1, FailureAction::kRestart, "WorkerFailed"}, Case{Json::object(), 64, FailureAction::kFail, "ConfigInvalid"},
                        Case{Json::object(), 78, FailureAction::kFail, "DataInvalid"}, Case{Json::object(), 75, FailureAction::kRestart, "WorkerFailed"},
                        Case{Json::object(), 143, FailureAction::kRestartDoNotCount, "Stopped"}, Case{Json::object(), 137, FailureAction::kRestart, "WorkerFailed"},
                        Case{rules, 9, FailureAction::kFail, "RuleMatched"}, Case{rules, 2, FailureAction::kRestartDoNotCount, "RuleMatched"},
                        Case{rules, 1, FailureAction::kRestart, "WorkerFailed"}}) {
    const auto verdict = JudgeFailure(c.policy, {Failed(0, c.code, "1")});
    EXPECT_EQ(verdict.action, c.action) << c.code;
    EXPECT_EQ(verdict.reason, c.reason) << c.code;
  }
}

TEST(FailurePolicy, ReasonsAndPodConditions) {
  const Json target = Json::parse(R"([{"type":"DisruptionTarget","status":"True","reason":"PreemptionByScheduler"}])");
  WorkerFailure preempted = Failed(0, 137, "1");
  preempted.conditions = target;
  WorkerFailure oom = Failed(0, 137, "1");
  oom.reason = "OOMKilled";
  WorkerFailure hang = Failed(0, 0, "");
  hang.reason = "HangTimeout";
  hang.lost = true;
  WorkerFailure gone = hang;
  gone.reason = "PodDeleted";
  const Json none = Json::object();
  auto rules = [](const char* text) { return Json{{"rules", Json::array({Json::parse(text)})}}; };
  struct Case {
    Json policy;
    WorkerFailure failure;
    FailureAction action;
    const char* reason;
  };
  for (const Case& c : {Case{none, preempted, FailureAction::kRestartDoNotCount, "Disrupted"}, Case{none, oom, FailureAction::kFail, "OutOfMemory"},
                        Case{none, hang, FailureAction::kRestart, "HangTimeout"}, Case{none, gone, FailureAction::kRestartDoNotCount, "PodDeleted"},
                        Case{none, Failed(0, 2, "1"), FailureAction::kFail, "ConfigInvalid"},
                        Case{rules(R"({"action":"Restart","onReasons":["x","OOMKilled"]})"), oom, FailureAction::kRestart, "RuleMatched"},
                        Case{rules(R"({"action":"Fail","onReasons":["PodDeleted"]})"), gone, FailureAction::kFail, "RuleMatched"},
                        Case{rules(R"({"action":"Fail","onPodConditions":[{"type":"DisruptionTarget","reason":"PreemptionByScheduler"}]})"), preempted, FailureAction::kFail, "RuleMatched"},
                        Case{rules(R"({"action":"Fail","onPodConditions":[{"type":"DisruptionTarget","reason":"Other"}]})"), preempted, FailureAction::kRestartDoNotCount, "Disrupted"},
                        // A hung or lost worker has no exit code that a rule could match.
                        Case{rules(R"({"action":"Fail","onExitCodes":{"operator":"NotIn","values":[3]}})"), gone, FailureAction::kRestartDoNotCount, "PodDeleted"}}) {
    const auto verdict = JudgeFailure(c.policy, {c.failure});
    EXPECT_EQ(verdict.action, c.action) << c.policy << c.failure.reason;
    EXPECT_EQ(verdict.reason, c.reason) << c.policy;
  }
}

TEST(FailurePolicy, Backoff) {
  const Json policy = Json::parse(R"({"backoff":{"initialSeconds":10,"maxSeconds":600}})");
  for (const auto& [restarts, wait] : std::vector<std::pair<int, int>>{{1, 10}, {2, 20}, {3, 40}, {7, 600}, {1000, 600}}) {
    EXPECT_EQ(RestartBackoff(policy, restarts).count(), wait) << restarts;
  }
}

TEST(Gates, Operators) {
  const Json metrics = {{"auc", 0.75}};
  struct Case {
    const char* op;
    const char* threshold;
    bool passed;
  };
  for (const Case& c : {Case{"GTE", "0.75", true}, Case{"GT", "0.75", false}, Case{"LTE", "0.75", true}, Case{"LT", "0.8", true}, Case{"GTE", "0.7501", false}}) {
    const Json gates = {{{"metric", "auc"}, {"op", c.op}, {"threshold", c.threshold}}};
    EXPECT_EQ(JudgeGates(Json::array({gates[0]}), metrics).passed, c.passed) << c.op << c.threshold;
  }
  EXPECT_TRUE(JudgeGates(Json::array(), metrics).passed);
  EXPECT_FALSE(JudgeGates(Json::array({{{"metric", "x"}, {"op", "GTE"}, {"threshold", "0"}}}), metrics).passed);
}

TEST(Transition, TimesToPhasesAndWhyWorkersRestart) {
  const auto status = [](const char* phase, int run, int restarts, bool has_run) {
    Json status = {{"phase", phase}, {"run", {{"number", run}, {"startTime", "2026-01-01T00:00:00Z"}, {"restarts", restarts}}}};
    if (has_run) status["run"]["runningTime"] = "2026-01-01T00:00:20Z";
    return status;
  };
  const auto now = *kube::ParseTime("2026-01-01T00:00:30Z");
  EXPECT_FALSE(TransitionOf(status("Running", 1, 0, true), status("Running", 1, 0, true), now));
  auto told = TransitionOf(Json::object(), {{"phase", "Pending"}}, now);  // waits for its source: no run yet
  EXPECT_EQ(told->phase, "Pending");
  EXPECT_FALSE(told->seconds);
  told = TransitionOf(status("Starting", 1, 0, false), status("Running", 1, 0, true), now);
  EXPECT_EQ(told->seconds, 30);
  EXPECT_EQ(told->restart_reason, "");
  Json restarts = status("Restarting", 1, 1, true);
  restarts["problems"] = {{{"reason", "OOMKilled"}}};
  EXPECT_EQ(TransitionOf(status("Running", 1, 0, true), restarts, now)->restart_reason, "OOMKilled");
  told = TransitionOf(restarts, status("Running", 1, 1, true), now);
  EXPECT_EQ(told->phase, "Running");
  EXPECT_FALSE(told->seconds);  // not the first time
  EXPECT_FALSE(TransitionOf(Json::object(), status("Starting", 1, 0, false), now)->seconds);
  EXPECT_EQ(TransitionOf(status("Running", 1, 1, true), status("Failed", 1, 1, true), now)->seconds, 30);
  told = TransitionOf(status("Running", 1, 3, true), status("Running", 2, 0, true), now);  // a run of its own
  EXPECT_EQ(told->seconds, 30);
  EXPECT_EQ(told->restart_reason, "");
}

TEST(PodCommand, PathsAtBoundariesOnly) {
  const local::PathMap paths = {{"/data", "/s/d"}, {"/data/x", "/s/x"}, {"/mnt/model", "/s/m"}};
  for (const auto& [text, want] : std::vector<std::pair<std::string, std::string>>{
           {"/data", "/s/d"}, {"/data/f.parquet", "/s/d/f.parquet"}, {"/data/x/y", "/s/x/y"}, {"/database", "/database"},
           {"a/data", "a/data"}, {"file:///mnt/model/r1", "file:///s/m/r1"}, {"k=/data,/data/x", "k=/s/d,/s/x"},
           {R"({"model_dir":"/mnt/model/r1"})", R"({"model_dir":"/s/m/r1"})"}, {"/data-2", "/data-2"}}) {
    EXPECT_EQ(local::RewritePaths(text, paths), want);
  }
}

}  // namespace
}  // namespace anneal::controllers
