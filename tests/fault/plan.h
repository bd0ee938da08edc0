// A fault plan: one workload, one kind of fault, where it strikes. Its text is its name: what fails can be run alone.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace anneal::fault {

enum class Fault {
  kNone,         ///< the reference
  kCrashBefore,  ///< killed before write `at` reaches the server
  kUnread,       ///< write `at` is done, its answer is lost: the operator lives on and does not know
  kCrashAfter,   ///< killed after write `at`
  kDrop,         ///< the watch goes silent at notification `at`, later it ends with 410
  kDelay,        ///< the watch lags from notification `at` on
  kDuplicate,    ///< notification `at` comes twice
  kReorder,      ///< notification `at` comes after the next ones of other kinds
  kCoalesce,     ///< from notification `at` on only the newest state of an object is told, late
  kStaleRead,    ///< read `at` sees the objects as they were `arg` versions ago
  kStaleLists,   ///< from read `at` on lists show an old state for a while
  kErrors,       ///< every call fails with a chance of `at` %: 409, 410, 429, 500, 503, timeouts; seed `arg`
  kTwoLeaders,   ///< stopped (SIGSTOP) at write `at`, continues and writes after another has taken over
  kSoak,         ///< random operations and random faults of all kinds; seed `arg`
};

struct Plan {
  std::string workload;
  Fault fault = Fault::kNone;
  int at = 0, arg = 0;

  std::string Text() const;  ///< "restart/unread/7" or "chain/errors/15/3"
};

/// nullopt for anything that Text() does not write.
std::optional<Plan> ParsePlan(const std::string& text);

/// What a run without faults did: the places where faults can strike.
struct Extent {
  int writes = 0, reads = 0, notifications = 0;
};

/// Every plan of a workload; `thin` keeps every thin-th place (for the short run).
std::vector<Plan> PlansOf(const std::string& workload, const Extent& extent, int thin);

}  // namespace anneal::fault
