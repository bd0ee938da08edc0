#include "worker/export/boundary.h"

namespace anneal::exporting {

Boundary BoundaryOf(const models::EmbeddingPlan& plan) {
  std::string groups;
  for (const auto& group : plan.groups) groups += (groups.empty() ? "" : "__") + group.name;
  Boundary boundary{groups + "__ebc", groups + "__dense", {}};
  for (const auto& group : plan.sequence_groups) {
    boundary.sequences.push_back({group.query.empty() ? "" : group.name + "__query", group.name + "__sequence",
                                  group.name + "__sequence_length"});
  }
  return boundary;
}

}  // namespace anneal::exporting
