// spec.workers.podTemplate over a worker pod, merged as kubectl's strategic merge patch does for pods.
#pragma once

#include "operator/kube/api.h"

namespace anneal::controllers {

/// Objects merge field by field and null removes a field (RFC 7386). Lists with a merge key in the Kubernetes API
/// (containers, initContainers, volumes, env, imagePullSecrets: name; volumeMounts, volumeDevices: mountPath,
/// devicePath; ports: containerPort; hostAliases: ip; topologySpreadConstraints: topologyKey) merge item by item, and
/// an item
/// {<key>, "$patch": "delete"} removes one; any other list is replaced.
kube::Json StrategicMerge(const kube::Json& base, const kube::Json& overlay);

}  // namespace anneal::controllers
