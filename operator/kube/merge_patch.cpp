#include "operator/kube/merge_patch.h"

namespace anneal::kube {

Json MergePatchOf(const Json& before, const Json& after) {
  Json patch = Json::object();
  for (const auto& [field, value] : before.items()) {
    if (!after.contains(field)) patch[field] = nullptr;
  }
  for (const auto& [field, value] : after.items()) {
    const auto old = before.find(field);
    if (old == before.end()) {
      patch[field] = value;
    } else if (*old != value) {
      patch[field] = old->is_object() && value.is_object() ? MergePatchOf(*old, value) : value;
    }
  }
  return patch;
}

}  // namespace anneal::kube
