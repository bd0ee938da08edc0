#include "operator/controllers/policies/timeouts.h"

#include <algorithm>

#include "operator/api/conditions.h"

namespace anneal::controllers {
namespace {

using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;

seconds Since(const std::string& text, kube::Clock::Time now) {
  const auto time = kube::ParseTime(text);
  return time ? std::chrono::duration_cast<seconds>(now - *time) : seconds(0);
}

/// When the step moved last, at the earliest when the workers of this attempt began to run.
std::string LastStepTime(const Json& status) {
  const Json& run = status["run"];
  const std::string moved = status.value("progress", Json::object()).value("lastStepTime", "");
  return std::max(moved, run.value("attemptRunningTime", run.value("attemptTime", "")));
}

/// No step is made any more.
bool Uploads(const Json& status) { return status.value("progress", Json::object()).value("phase", "") == "upload"; }

}  // namespace

TimeoutVerdict CheckTimeouts(const Json& spec, const Json& status, bool all_run, kube::Clock::Time now) {
  TimeoutVerdict verdict;
  const Json& run = status["run"];
  const Json& policy = spec["failurePolicy"];
  const auto over = [&](int64_t limit, seconds passed) {
    if (passed >= seconds(limit)) return true;
    const milliseconds wait = seconds(limit) - passed + milliseconds(500);
    verdict.look_again = std::min(verdict.look_again.value_or(wait), wait);
    return false;
  };
  const auto late = [&](const char* reason, const std::string& message) {
    return TimeoutVerdict{reason, message, std::nullopt};
  };
  if (spec.contains("activeDeadlineSeconds")) {
    const int64_t limit = spec["activeDeadlineSeconds"];
    if (over(limit, Since(run.value("startTime", ""), now)))
      return late("DeadlineExceeded", "the run is older than activeDeadlineSeconds " + std::to_string(limit));
  }
  const int64_t pending = policy.value("pendingTimeoutSeconds", int64_t{0});
  if (pending > 0 && !all_run && over(pending, Since(run.value("attemptTime", ""), now))) {
    const Json ready = api::FindCondition(status, "WorkersReady");
    return late("PendingTimeout", "not all workers ran within " + std::to_string(pending) +
                                      " s: " + (ready.is_object() ? ready.value("message", "") : ""));
  }
  const int64_t step = policy.value("progressTimeoutSeconds", int64_t{0});
  if (step > 0 && all_run && !Uploads(status) && over(step, Since(LastStepTime(status), now)))
    return late("HangTimeout", "the step did not move for " + std::to_string(step) + " s");
  return verdict;
}

ProgressVerdict JudgeProgress(const Json& spec, const Json& status, kube::Clock::Time now) {
  const Json progress = status.value("progress", Json::object());
  const int64_t limit = spec["failurePolicy"].value("progressTimeoutSeconds", int64_t{0});
  if (Uploads(status)) return {true, "Uploading", "the steps are done, the last checkpoint is uploaded", std::nullopt};
  const std::string last = LastStepTime(status);
  const seconds quiet = Since(last, now);
  if (limit > 0 && quiet >= seconds(limit) / 2) {
    return {false, "HangSuspected",
            "the step has not moved since " + last + "; all workers restart after " + std::to_string(limit) + " s",
            std::nullopt};
  }
  const bool heard = !progress.value("lastStepTime", "").empty();
  ProgressVerdict verdict{heard, heard ? "StepAdvanced" : "NoHeartbeat",
                          heard ? "the step moves" : "rank 0 has reported no step yet", std::nullopt};
  if (limit > 0) verdict.look_again = seconds(limit) / 2 - quiet + milliseconds(500);
  return verdict;
}

}  // namespace anneal::controllers
