// Merge patches (RFC 7396).
#pragma once

#include "operator/kube/api.h"

namespace anneal::kube {

/// The patch that makes one object of another. Objects are merged, so what has left one at any depth is named; lists
/// and values are replaced.
Json MergePatchOf(const Json& before, const Json& after);

}  // namespace anneal::kube
