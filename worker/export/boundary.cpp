#include "worker/export/boundary.h"

namespace anneal::exporting {

Boundary BoundaryOf(const models::EmbeddingPlan& plan) {
  std::string groups;
  for (const auto& group : plan.groups) groups += (groups.empty() ? "" : "__") + group.name;
  Boundary boundary{groups + "__ebc", groups + "__dense", {}};
  for (const auto& group : plan.sequence_groups) {
    auto& names = boundary.sequences.emplace_back();
    if (!group.query.empty()) names.query = group.name + "__query";
    if (group.sequence.empty()) continue;
    names.sequence = group.name + "__sequence";
    names.length = group.name + "__sequence_length";
  }
  return boundary;
}

}  // namespace anneal::exporting
