#include "operator/kube/child_cache.h"

#include <algorithm>

namespace anneal::kube {
namespace {

/// A child that was made and of which the watch has told nothing for so long may be gone again.
constexpr std::chrono::seconds kWatchTells{10};

Json Pick(const Json& object, std::initializer_list<const char*> fields) {
  Json picked = Json::object();
  for (const char* field : fields) {
    if (const auto found = object.find(field); found != object.end()) picked[field] = *found;
  }
  return picked;
}

/// Of each item of object[list] only some fields.
void PickEach(const Json& object, const char* list, std::initializer_list<const char*> fields, Json& picked) {
  const auto found = object.find(list);
  if (found == object.end() || !found->is_array()) return;
  for (const Json& item : *found) picked[list].push_back(Pick(item, fields));
}

/// What the policies of operator/controllers read of a pod.
Json Project(const Json& object) {
  const Json& metadata = object.at("metadata");
  Json kept = {{"metadata", Pick(metadata, {"name", "namespace", "uid", "resourceVersion", "deletionTimestamp"})}};
  for (const char* map : {"labels", "annotations"}) {
    const Json all = metadata.value(map, Json::object());
    for (const auto& [name, value] : all.items()) {
      if (name.starts_with("anneal.dev/")) kept["metadata"][map][name] = value;
    }
  }
  PickEach(metadata, "ownerReferences", {"uid"}, kept["metadata"]);
  if (const Json node = object.value("spec", Json::object()).value("nodeName", Json()); node.is_string())
    kept["spec"]["nodeName"] = node;
  const Json status = object.value("status", Json::object());
  Json& told = kept["status"] = Pick(status, {"phase", "reason", "message", "podIP"});
  PickEach(status, "conditions", {"type", "status", "reason", "message", "lastTransitionTime"}, told);
  for (const char* list : {"containerStatuses", "initContainerStatuses"})
    PickEach(status, list, {"name", "state"}, told);
  return kept;
}

}  // namespace

ChildCache::Child ChildCache::Pack(const Json& object) {
  Child child;
  const Json& metadata = object.at("metadata");
  child.uid = metadata.value("uid", "");
  const Json owners = metadata.value("ownerReferences", Json::array());
  for (const Json& owner : owners) {
    if (owner.value("controller", false)) child.owner = owner.value("uid", "");
  }
  Json::to_cbor(Project(object), child.body);
  child.body.shrink_to_fit();
  return child;
}

void ChildCache::Put(const Key& key, Child child) {
  if (child.owner.empty()) return;
  const std::lock_guard lock(mutex_);
  if (const auto waits = expected_.find(key); waits != expected_.end() && waits->second.owner == child.owner)
    expected_.erase(waits);
  auto& children = by_owner_[child.owner];
  children[key] = {std::move(child.uid), "", std::move(child.body)};
}

void ChildCache::Erase(const Key& key, const std::string& owner, const std::string& uid) {
  const std::lock_guard lock(mutex_);
  if (const auto waits = expected_.find(key);
      waits != expected_.end() && waits->second.made && waits->second.made->uid == uid)
    expected_.erase(waits);
  const auto children = by_owner_.find(owner);
  if (children == by_owner_.end()) return;
  const auto found = children->second.find(key);
  if (found == children->second.end() || found->second.uid != uid) return;
  children->second.erase(found);
  if (children->second.empty()) by_owner_.erase(children);
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
    if (const auto found = by_owner_.find(owner); found != by_owner_.end()) {
      for (const auto& [key, child] : found->second) bodies[key] = child.body;
    }
    for (const auto& [key, expected] : expected_) {
      if (expected.owner != owner) continue;
      if (expected.made && now - expected.since < kWatchTells) {
        bodies[key] = expected.made->body;
      } else {
        children.unsure.push_back(key);
      }
    }
  }
  for (const auto& [key, body] : bodies) children.known.push_back(Json::from_cbor(body));
  return children;
}

}  // namespace anneal::kube
