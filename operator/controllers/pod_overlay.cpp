#include "operator/controllers/pod_overlay.h"

#include <algorithm>
#include <map>
#include <string>

namespace anneal::controllers {
namespace {

using kube::Json;

const std::map<std::string, std::string> kMergeKeys = {
    {"containers", "name"},       {"initContainers", "name"},
    {"volumes", "name"},          {"env", "name"},
    {"imagePullSecrets", "name"}, {"volumeMounts", "mountPath"},
    {"ports", "containerPort"},   {"volumeDevices", "devicePath"},
    {"hostAliases", "ip"},        {"topologySpreadConstraints", "topologyKey"}};

Json MergeList(Json base, const Json& overlay, const std::string& key) {
  for (const Json& item : overlay) {
    const auto same = std::find_if(base.begin(), base.end(), [&](const Json& other) {
      return item.is_object() && item.contains(key) && other.contains(key) && other[key] == item[key];
    });
    const bool removes = item.is_object() && item.value("$patch", "") == "delete";
    if (removes) {
      if (same != base.end()) base.erase(same);
    } else if (same != base.end()) {
      *same = StrategicMerge(*same, item);
    } else {
      base.push_back(item);
    }
  }
  return base;
}

}  // namespace

Json StrategicMerge(const Json& base, const Json& overlay) {
  if (!base.is_object() || !overlay.is_object()) return overlay;
  Json merged = base;
  for (const auto& [name, value] : overlay.items()) {
    const auto key = kMergeKeys.find(name);
    if (value.is_null()) {
      merged.erase(name);
    } else if (!merged.contains(name)) {
      merged[name] = value;
    } else if (key != kMergeKeys.end() && value.is_array() && merged[name].is_array()) {
      merged[name] = MergeList(merged[name], value, key->second);
    } else {
      merged[name] = StrategicMerge(merged[name], value);
    }
  }
  return merged;
}

}  // namespace anneal::controllers
