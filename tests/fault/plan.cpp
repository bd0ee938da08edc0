#include "tests/fault/plan.h"

#include <array>
#include <sstream>
#include <utility>

namespace anneal::fault {
namespace {

constexpr std::array<std::pair<Fault, const char*>, 14> kNames = {{{Fault::kNone, "none"},
                                                                   {Fault::kCrashBefore, "crash-before"},
                                                                   {Fault::kUnread, "unread"},
                                                                   {Fault::kCrashAfter, "crash-after"},
                                                                   {Fault::kDrop, "drop"},
                                                                   {Fault::kDelay, "delay"},
                                                                   {Fault::kDuplicate, "duplicate"},
                                                                   {Fault::kReorder, "reorder"},
                                                                   {Fault::kCoalesce, "coalesce"},
                                                                   {Fault::kStaleRead, "stale-read"},
                                                                   {Fault::kStaleLists, "stale-lists"},
                                                                   {Fault::kErrors, "errors"},
                                                                   {Fault::kTwoLeaders, "two-leaders"},
                                                                   {Fault::kSoak, "soak"}}};

bool HasArgument(Fault fault) { return fault == Fault::kStaleRead || fault == Fault::kErrors || fault == Fault::kSoak; }

}  // namespace

std::string Plan::Text() const {
  std::string name;
  for (const auto& [kind, text] : kNames) {
    if (kind == fault) name = text;
  }
  std::string text = workload + "/" + name;
  if (fault == Fault::kNone) return text;
  text += "/" + std::to_string(at);
  return HasArgument(fault) ? text + "/" + std::to_string(arg) : text;
}

std::optional<Plan> ParsePlan(const std::string& text) {
  std::istringstream in(text);
  std::string name, at, arg;
  Plan plan;
  std::getline(in, plan.workload, '/');
  std::getline(in, name, '/');
  std::getline(in, at, '/');
  std::getline(in, arg, '/');
  for (const auto& [kind, known] : kNames) {
    if (name == known) plan.fault = kind;
  }
  plan.at = std::atoi(at.c_str());
  plan.arg = std::atoi(arg.c_str());
  if (plan.Text() != text) return std::nullopt;
  return plan;
}

std::vector<Plan> PlansOf(const std::string& workload, const Extent& extent, int thin) {
  std::vector<Plan> plans;
  const auto each = [&](Fault fault, int places, int stride, int arg = 0) {
    for (int at = 1; at <= places; at += stride * thin) plans.push_back({workload, fault, at, arg});
  };
  for (const Fault fault : {Fault::kCrashBefore, Fault::kUnread, Fault::kCrashAfter, Fault::kTwoLeaders})
    each(fault, extent.writes, 1);
  each(Fault::kDrop, extent.notifications, 2);
  for (const Fault fault : {Fault::kDelay, Fault::kDuplicate, Fault::kReorder, Fault::kCoalesce})
    each(fault, extent.notifications, 4);
  each(Fault::kStaleRead, extent.reads, 7, 1);
  each(Fault::kStaleRead, extent.reads, 11, 5);
  each(Fault::kStaleLists, extent.reads, 13);
  for (const int percent : {3, 10, 30}) {
    for (int seed = 1; seed <= (thin == 1 ? 6 : 1); ++seed) plans.push_back({workload, Fault::kErrors, percent, seed});
  }
  return plans;
}

}  // namespace anneal::fault
