#include "worker/export/boundary.h"

namespace anneal::exporting {

Boundary BoundaryOf(const models::EmbeddingPlan& plan) {
  std::string groups;
  for (const auto& group : plan.groups) groups += (groups.empty() ? "" : "__") + group.name;
  return {groups + "__ebc", groups + "__dense"};
}

}  // namespace anneal::exporting
