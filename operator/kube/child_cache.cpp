#include "operator/kube/child_cache.h"

#include <algorithm>

namespace anneal::kube {
namespace {

/// A child that was made and of which the watch has told nothing for so long may be gone again.
constexpr std::chrono::seconds kWatchTells{10};

/// object[field], null when there is none.
const Json& Field(const Json& object, const char* field) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto found = object.find(field);
  return found == object.end() ? none : *found;
}

Json Pick(const Json& object, std::initializer_list<const char*> fields) {
  Json picked = Json::object();
  for (const char* field : fields) {
    if (const Json& found = Field(object, field); !found.is_null()) picked[field] = found;
  }
  return picked;
}

/// Of each item of object[list] only some fields.
void PickEach(const Json& object, const char* list, std::initializer_list<const char*> fields, Json& picked) {
  const Json& items = Field(object, list);
  if (!items.is_array()) return;
  for (const Json& item : items) picked[list].push_back(Pick(item, fields));
}

/// What the policies of operator/controllers read of a pod, but for its name and namespace: those are its key.
Json Project(const Json& object) {
  const Json& metadata = object.at("metadata");
  Json kept = {{"metadata", Pick(metadata, {"uid", "resourceVersion", "deletionTimestamp"})}};
  kept["metadata"]["labels"] =
      Pick(Field(metadata, "labels"), {"anneal.dev/run", "anneal.dev/attempt", "anneal.dev/index"});
  if (Json told = Pick(Field(metadata, "annotations"), {"anneal.dev/progress-url"}); !told.empty())
    kept["metadata"]["annotations"] = std::move(told);
  PickEach(metadata, "ownerReferences", {"uid"}, kept["metadata"]);
  if (const Json& node = Field(Field(object, "spec"), "nodeName"); node.is_string()) kept["spec"]["nodeName"] = node;
  const Json& status = Field(object, "status");
  Json& told = kept["status"] = Pick(status, {"phase", "reason", "message", "podIP"});
  PickEach(status, "conditions", {"type", "status", "reason", "message"}, told);
  // The time since when a node is silent (NodeSilentSince); nobody asks for that of the others.
  for (size_t i = 0; told.contains("conditions") && i < told["conditions"].size(); ++i) {
    if (Field(told["conditions"][i], "type") == "Ready")
      told["conditions"][i].update(Pick(status["conditions"][i], {"lastTransitionTime"}));
  }
  for (const char* list : {"containerStatuses", "initContainerStatuses"})
    PickEach(status, list, {"name", "state"}, told);
  return kept;
}

}  // namespace

ChildCache::Child ChildCache::Pack(const Json& object) {
  Child child;
  const Json& metadata = object.at("metadata");
  child.uid = metadata.value("uid", "");
  for (const Json& owner : Field(metadata, "ownerReferences")) {
    if (owner.value("controller", false)) child.owner = owner.value("uid", "");
  }
  Json::to_cbor(Project(object), child.body);
  child.body.shrink_to_fit();
  return child;
}

void ChildCache::Put(const Key& key, const std::string& owner, std::string body) {
  const std::lock_guard lock(mutex_);
  if (const auto waits = expected_.find(key); waits != expected_.end() && waits->second.owner == owner)
    expected_.erase(waits);
  bodies_[{owner, key}] = std::move(body);
}

void ChildCache::Erase(const Key& key, const std::string& owner, const std::string& uid) {
  const std::lock_guard lock(mutex_);
  if (const auto waits = expected_.find(key);
      waits != expected_.end() && waits->second.made && waits->second.made->uid == uid)
    expected_.erase(waits);
  const auto found = bodies_.find({owner, key});
  if (found != bodies_.end() && Json::from_cbor(found->second)["metadata"].value("uid", "") == uid)
    bodies_.erase(found);
}

void ChildCache::Expect(const Key& key, const std::string& owner) {
  const std::lock_guard lock(mutex_);
  expected_[key] = {owner, std::nullopt, {}};
}

// The watch may have been quicker: then nothing is expected any more, and what it told is newer.
void ChildCache::Made(const Json& child, Clock::Time now) {
  const Json& metadata = child.at("metadata");
  const std::lock_guard lock(mutex_);
  const auto waits = expected_.find({metadata.value("namespace", ""), metadata.at("name").get<std::string>()});
  if (waits == expected_.end()) return;
  waits->second.made = Pack(child);
  waits->second.since = now;
}

void ChildCache::NotMade(const Key& key) {
  const std::lock_guard lock(mutex_);
  expected_.erase(key);
}

ChildCache::Children ChildCache::Of(const std::string& owner, Clock::Time now) const {
  Children children;
  std::map<Key, std::string> bodies;
  {
    const std::lock_guard lock(mutex_);
    for (auto found = bodies_.lower_bound({owner, Key()}); found != bodies_.end() && found->first.first == owner;
         ++found)
      bodies[found->first.second] = found->second;
    for (const auto& [key, expected] : expected_) {
      if (expected.owner != owner) continue;
      if (expected.made && now - expected.since < kWatchTells) {
        bodies[key] = expected.made->body;
      } else {
        children.unsure.push_back(key);
      }
    }
  }
  for (const auto& [key, body] : bodies) {
    Json& child = children.known.emplace_back(Json::from_cbor(body));
    child["metadata"]["namespace"] = key.ns;
    child["metadata"]["name"] = key.name;
  }
  return children;
}

}  // namespace anneal::kube
