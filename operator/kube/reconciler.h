// What the manager runs: one reconciler per kind, level-triggered, keyed by namespace and name.
#pragma once

#include <chrono>
#include <compare>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "operator/kube/api.h"

namespace anneal::kube {

/// Name of an object within its kind.
struct Key {
  std::string ns, name;
  auto operator<=>(const Key&) const = default;
};

/// Time as the reconcilers see it; tests step their own.
class Clock {
 public:
  using Time = std::chrono::system_clock::time_point;
  virtual ~Clock() = default;
  virtual Time Now() const { return std::chrono::system_clock::now(); }
};

/// "2026-11-24T10:00:00Z" and back. ParseTime of anything else gives nullopt.
std::string FormatTime(Clock::Time time);
std::optional<Clock::Time> ParseTime(const std::string& text);

struct ReconcileResult {
  std::optional<std::chrono::milliseconds> requeue_after;  ///< look again then, even if nothing happens
};

/// An object of the same namespace that a job is made from.
struct Reference {
  Resource resource;
  std::string name;
};

class Reconciler {
 public:
  virtual ~Reconciler() = default;
  virtual const Resource& resource() const = 0;    ///< the kind reconciled
  virtual std::vector<Resource> owns() const = 0;  ///< children: their events queue the controlling owner
  /// Other kinds that objects of this kind refer to, and what one of them refers to: the events of those queue it.
  virtual std::vector<Resource> refers_to() const { return {}; }
  virtual std::vector<Reference> References(const Json&) const { return {}; }
  /// Brings the world one step closer to the spec. Throws ApiError for what may pass: the key is tried again later.
  virtual ReconcileResult Reconcile(const Key& key) = 0;
  /// As Reconcile, but only for an object that nobody has served yet: before its children are known, for it has none.
  virtual ReconcileResult Welcome(const Key&) { return {}; }
};

}  // namespace anneal::kube
