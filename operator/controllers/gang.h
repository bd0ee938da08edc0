// All workers scheduled together or not at all: spec.scheduling for Kueue and Volcano.
#pragma once

#include "operator/kube/api.h"

namespace anneal::controllers {

/// scheduling.volcano.sh/v1beta1 PodGroup.
inline const kube::Resource kPodGroup{"scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups"};

bool UsesVolcano(const kube::Json& job);
/// <job>-r<run>: pods of every attempt of the run join it.
std::string PodGroupName(const kube::Json& job, int run);

/// Adds queue labels, group names, scheduler and priority to a pod of the current attempt. Kueue's groups are one per
/// attempt, since it never replaces pods inside a group; they are marked not retriable, so that the quota of a failed
/// attempt is free at once.
void ApplyScheduling(const kube::Json& job, kube::Json& pod);

/// The Volcano PodGroup of the run: minMember is the number of workers, minResources the sum of `pod`'s requests.
kube::Json VolcanoPodGroup(const kube::Json& job, const kube::Json& pod);

}  // namespace anneal::controllers
