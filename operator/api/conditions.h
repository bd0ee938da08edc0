// Conditions in the form of metav1.Condition.
#pragma once

#include <string>

#include "operator/kube/reconciler.h"

namespace anneal::api {

/// Sets status.conditions[type]; lastTransitionTime moves only when the status value changes.
void SetCondition(kube::Json& status, const std::string& type, bool value, const std::string& reason,
                  const std::string& message, int64_t generation, kube::Clock::Time now);

/// Ready, Reconciling and Stalled: what GitOps tools read (kstatus).
struct Readiness {
  bool ready = false, reconciling = true, stalled = false;
};
void SetReadiness(kube::Json& status, const Readiness& readiness, const std::string& reason, const std::string& message,
                  int64_t generation, kube::Clock::Time now);

/// Removes a condition (a new run has neither Complete nor Failed).
void RemoveCondition(kube::Json& status, const std::string& type);

/// The condition, or a JSON null.
kube::Json FindCondition(const kube::Json& status, const std::string& type);
bool IsTrue(const kube::Json& status, const std::string& type);

}  // namespace anneal::api
