#include "operator/kube/event_router.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace anneal::kube {

EventRouter::EventRouter(std::vector<const Reconciler*> reconcilers, ChildCache* children, OwnWrites* own_writes)
    : reconcilers_(std::move(reconcilers)), children_(children), own_writes_(own_writes) {
  for (const Reconciler* reconciler : reconcilers_) {
    SourceOf(reconciler->resource(), false);
    for (const Resource& child : reconciler->owns()) SourceOf(child, true);
    for (const Resource& other : reconciler->refers_to()) SourceOf(other, false);
  }
  known_.resize(sources_.size());
}

size_t EventRouter::SourceOf(const Resource& resource, bool child) {
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].resource == resource && sources_[i].child == child) return i;
  }
  sources_.push_back({resource, child});
  return sources_.size() - 1;
}

EventRouter::Trace EventRouter::Read(size_t source, const Json& object) const {
  const Json& metadata = object.at("metadata");
  Trace trace;
  trace.key = {metadata.value("namespace", ""), metadata.at("name").get<std::string>()};
  for (size_t i = 0; i < reconcilers_.size(); ++i) {
    const Resource& kind = reconcilers_[i]->resource();
    if (sources_[source].child && metadata.contains("ownerReferences")) {
      for (const Json& owner : metadata["ownerReferences"]) {
        if (owner.value("controller", false) && owner.value("kind", "") == kind.kind &&
            owner.value("apiVersion", "") == kind.api_version()) {
          trace.owners.push_back({i, {trace.key.ns, owner.value("name", "")}});
        }
      }
    }
    if (!(kind == sources_[source].resource) || sources_[source].child) continue;
    trace.own = own_writes_ && own_writes_->Take(kind, trace.key, metadata.value("resourceVersion", ""));
    if (const auto status = object.find("status"); status != object.end() && status->is_object()) {
      if (const auto phase = status->find("phase"); phase != status->end() && phase->is_string()) trace.phase = *phase;
    }
    std::vector<Reference> references;
    try {
      references = reconcilers_[i]->References(object);
    } catch (const Json::exception&) {
      // An object of a shape that nobody expected is its reconciler's to report: here it must not stop the watch.
    }
    for (const Reference& reference : references) {
      for (size_t other = 0; other < sources_.size(); ++other) {
        if (sources_[other].resource == reference.resource && !sources_[other].child)
          trace.references.push_back({other, {trace.key.ns, reference.name}});
      }
    }
  }
  if (children_ && sources_[source].child) trace.child = ChildCache::Pack(object);
  trace.owners.shrink_to_fit();
  trace.references.shrink_to_fit();
  return trace;
}

std::vector<EventRouter::Wake> EventRouter::WakesOf(size_t source, const Trace& trace) const {
  std::vector<Wake> wakes = trace.owners;
  for (size_t i = 0; i < reconcilers_.size(); ++i) {
    if (!trace.own && !sources_[source].child && reconcilers_[i]->resource() == sources_[source].resource)
      wakes.push_back({i, trace.key});
  }
  const auto found = followers_.find({source, trace.key});
  if (found != followers_.end()) wakes.insert(wakes.end(), found->second.begin(), found->second.end());
  // Whoever owned the object of that name until now has lost it.
  const auto before = known_[source].find(trace.key);
  if (before == known_[source].end()) return wakes;
  for (const Wake& owner : before->owners) {
    if (std::find(trace.owners.begin(), trace.owners.end(), owner) == trace.owners.end()) wakes.push_back(owner);
  }
  return wakes;
}

void EventRouter::Keep(size_t source, Trace trace) {
  const auto before = known_[source].find(trace.key);
  std::optional<Trace> other;  // of that name before, and somebody else's: its end was not told
  if (before != known_[source].end() && before->child.owner != trace.child.owner) other = *before;
  Forget(source, trace.key);
  for (const auto& reference : trace.references) {
    for (size_t i = 0; i < reconcilers_.size(); ++i) {
      if (reconcilers_[i]->resource() == sources_[source].resource) followers_[reference].insert({i, trace.key});
    }
  }
  // Put takes the old one's place: a child is never missing in between.
  if (!trace.child.owner.empty()) children_->Put(trace.key, trace.child.owner, std::exchange(trace.child.body, {}));
  if (other) ForgetChild(*other);
  trace.own = false;  // of this event only
  known_[source].insert(std::move(trace));
}

void EventRouter::ForgetChild(const Trace& trace) {
  if (!trace.child.owner.empty()) children_->Erase(trace.key, trace.child.owner, trace.child.uid);
}

void EventRouter::Forget(size_t source, const Key& key) {
  const auto found = known_[source].find(key);
  if (found == known_[source].end()) return;
  for (const auto& reference : found->references) {
    const auto followers = followers_.find(reference);
    if (followers == followers_.end()) continue;
    std::erase_if(followers->second, [&](const Wake& wake) {
      return wake.key == key && reconcilers_[wake.reconciler]->resource() == sources_[source].resource;
    });
    if (followers->second.empty()) followers_.erase(followers);
  }
  known_[source].erase(found);
}

std::vector<EventRouter::Wake> EventRouter::Changed(size_t source, Trace trace) {
  const std::lock_guard lock(mutex_);
  auto wakes = WakesOf(source, trace);
  Keep(source, std::move(trace));
  return wakes;
}

std::vector<EventRouter::Wake> EventRouter::Gone(size_t source, const Trace& trace) {
  const std::lock_guard lock(mutex_);
  Forget(source, trace.key);
  ForgetChild(trace);
  return WakesOf(source, trace);
}

std::vector<EventRouter::Wake> EventRouter::Replaced(size_t source, const std::string& ns, std::vector<Trace> list) {
  const std::lock_guard lock(mutex_);
  std::set<Key> there;
  for (const Trace& trace : list) there.insert(trace.key);
  std::vector<Trace> gone;
  for (const Trace& trace : known_[source]) {
    if ((ns.empty() || trace.key.ns == ns) && !there.count(trace.key)) gone.push_back(trace);
  }
  std::vector<Wake> wakes;
  auto tell = [&](const Trace& trace) {
    const auto more = WakesOf(source, trace);
    wakes.insert(wakes.end(), more.begin(), more.end());
  };
  for (const Trace& trace : gone) {
    tell(trace);
    Forget(source, trace.key);
    ForgetChild(trace);
  }
  for (Trace& trace : list) {
    tell(trace);
    Keep(source, std::move(trace));
  }
  return wakes;
}

std::map<std::string, size_t> EventRouter::Phases(size_t reconciler) const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, size_t> phases;
  for (size_t source = 0; source < sources_.size(); ++source) {
    if (sources_[source].child || !(sources_[source].resource == reconcilers_[reconciler]->resource())) continue;
    for (const Trace& trace : known_[source]) ++phases[trace.phase];
  }
  return phases;
}

size_t EventRouter::size() const {
  const std::lock_guard lock(mutex_);
  size_t count = 0;
  for (const auto& objects : known_) count += objects.size();
  return count;
}

}  // namespace anneal::kube
