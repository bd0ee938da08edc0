#include "operator/local/memory_api.h"

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace anneal::local {
namespace {

namespace fs = std::filesystem;
using kube::ApiError;
using kube::EventType;
using kube::Json;
using kube::Key;
using kube::Resource;

std::string NewUid() {
  static std::mutex mutex;
  static std::mt19937_64 random{std::random_device{}()};
  const std::lock_guard lock(mutex);
  const uint64_t a = random(), b = random();
  char text[40];
  std::snprintf(text, sizeof text, "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(a >> 32),
                static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
                static_cast<unsigned>(0x8000 | (b >> 48 & 0x3fff)),
                static_cast<unsigned long long>(b & 0xffffffffffffULL));
  return text;
}

std::string KindKey(const Resource& resource) {
  return resource.plural + (resource.group.empty() ? "" : "." + resource.group);
}

std::string Describe(const Resource& resource, const std::string& name) {
  return KindKey(resource) + " \"" + name + "\"";
}

bool HasFinalizers(const Json& metadata) { return metadata.contains("finalizers") && !metadata["finalizers"].empty(); }

uint64_t ParseVersion(const std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
    throw ApiError(400, "BadRequest", "resourceVersion '" + text + "' is not a number");
  }
  return std::stoull(text);
}

void RequireVersion(const Json& metadata, const Json& patch, const Resource& resource) {
  if (!patch.contains("metadata") || !patch["metadata"].contains("resourceVersion")) return;
  if (patch["metadata"]["resourceVersion"] != metadata["resourceVersion"]) {
    throw ApiError(409, "Conflict",
                   "Operation cannot be fulfilled on " + Describe(resource, metadata["name"]) +
                       ": the object has been modified; please apply your changes to the latest version");
  }
}

bool Matches(const Json& object, const std::string& labels, const std::string& field) {
  if (!MatchesSelector(object.at("metadata").value("labels", Json::object()), labels)) return false;
  if (field.empty()) return true;
  const size_t equals = field.find('=');
  std::string pointer = "/" + field.substr(0, equals);
  std::replace(pointer.begin(), pointer.end(), '.', '/');
  return object.value(Json::json_pointer(pointer), "") == field.substr(equals + 1);
}

}  // namespace

/// A watch's side of the event stream.
struct MemoryApi::Subscription {
  Resource resource;
  std::string ns, labels, field;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<kube::WatchEvent> events;
  bool done = false;

  bool Wants(const Resource& other, const Json& object) const {
    if (!(resource == other)) return false;
    return (ns.empty() || object.at("metadata").value("namespace", "") == ns) && Matches(object, labels, field);
  }
};

class MemoryApi::MemoryWatch : public kube::Watch {
 public:
  explicit MemoryWatch(std::shared_ptr<Subscription> subscription) : subscription_(std::move(subscription)) {}

  std::optional<kube::WatchEvent> Next(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(subscription_->mutex);
    subscription_->changed.wait_for(lock, timeout,
                                    [&] { return !subscription_->events.empty() || subscription_->done; });
    if (subscription_->events.empty()) return std::nullopt;
    auto event = std::move(subscription_->events.front());
    subscription_->events.pop_front();
    return event;
  }
  void Cancel() override {
    const std::lock_guard lock(subscription_->mutex);
    subscription_->done = true;
    subscription_->changed.notify_all();
  }
  bool done() const override {
    const std::lock_guard lock(subscription_->mutex);
    return subscription_->done && subscription_->events.empty();
  }

 private:
  std::shared_ptr<Subscription> subscription_;
};

MemoryApi::MemoryApi(Options options, const kube::Clock& clock) : options_(std::move(options)), clock_(clock) {
  Load();
}

MemoryApi::~MemoryApi() = default;

void MemoryApi::SetFault(std::function<void(const std::string&, const Resource&)> fault) {
  const std::lock_guard lock(mutex_);
  fault_ = std::move(fault);
}

void MemoryApi::Check(const std::string& verb, const Resource& resource) {
  if (fault_) fault_(verb, resource);
}

MemoryApi::Objects& MemoryApi::ObjectsOf(const Resource& resource) {
  auto& entry = kinds_[KindKey(resource)];
  entry.first = resource;
  return entry.second;
}

Json& MemoryApi::Find(const Resource& resource, const std::string& ns, const std::string& name) {
  auto& objects = ObjectsOf(resource);
  const auto found = objects.find({ns, name});
  if (found == objects.end()) throw ApiError(404, "NotFound", Describe(resource, name) + " not found");
  return found->second;
}

std::string MemoryApi::PathOf(const Resource& resource, const Json& object) const {
  const Json& metadata = object.at("metadata");
  return (fs::path(options_.folder) / KindKey(resource) /
          (metadata.value("namespace", "") + "_" + metadata.at("name").get<std::string>() + ".json"))
      .string();
}

void MemoryApi::Load() {
  if (options_.folder.empty()) return;
  fs::create_directories(options_.folder);
  for (const auto& kind : fs::directory_iterator(options_.folder)) {
    if (!kind.is_directory()) continue;
    for (const auto& entry : fs::directory_iterator(kind)) {
      if (entry.path().extension() != ".json") continue;
      std::ifstream in(entry.path());
      const Json stored = Json::parse(in, nullptr, false);
      if (!stored.is_object() || !stored.contains("resource")) continue;
      const Json& facts = stored["resource"];
      const Resource resource{facts["group"], facts["version"], facts["kind"], facts["plural"], facts["status"]};
      const Json& object = stored["object"];
      const Json& metadata = object["metadata"];
      ObjectsOf(resource)[{metadata.value("namespace", ""), metadata["name"]}] = object;
      version_ = std::max(version_, ParseVersion(metadata["resourceVersion"]));
    }
  }
  forgotten_ = version_;
}

// Stamps a new version, keeps the object on disk and tells the watchers.
void MemoryApi::Store(const Resource& resource, Json& object, EventType type) {
  object["metadata"]["resourceVersion"] = std::to_string(++version_);
  if (!options_.folder.empty()) {
    const fs::path path = PathOf(resource, object);
    if (type == EventType::kDeleted) {
      fs::remove(path);
    } else {
      fs::create_directories(path.parent_path());
      const fs::path temporary = path.string() + ".tmp";
      std::ofstream out(temporary);
      out << Json{{"resource",
                   {{"group", resource.group},
                    {"version", resource.version},
                    {"kind", resource.kind},
                    {"plural", resource.plural},
                    {"status", resource.has_status}}},
                  {"object", object}}
                 .dump(1);
      out.close();
      if (!out) throw ApiError(507, "InsufficientStorage", "cannot write " + path.string());
      fs::rename(temporary, path);
    }
  }
  history_.push_back({version_, resource, {type, object}});
  if (history_.size() > options_.history) {
    forgotten_ = history_.front().version;
    history_.pop_front();
  }
  std::erase_if(subscriptions_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : subscriptions_) {
    const auto subscription = weak.lock();
    if (!subscription || !subscription->Wants(resource, object)) continue;
    const std::lock_guard lock(subscription->mutex);
    subscription->events.push_back({type, object});
    subscription->changed.notify_all();
  }
}

Json MemoryApi::Get(const Resource& resource, const std::string& ns, const std::string& name) {
  const std::lock_guard lock(mutex_);
  Check("get", resource);
  return Find(resource, ns, name);
}

kube::ListResult MemoryApi::List(const Resource& resource, const std::string& ns, const kube::ListOptions& options) {
  const std::lock_guard lock(mutex_);
  Check("list", resource);
  kube::ListResult result;
  // A continue token is "<version> <namespace>/<last name>"; it expires with the history of that version.
  Key after;
  result.resource_version = std::to_string(version_);
  if (!options.continue_token.empty()) {
    const size_t space = options.continue_token.find(' '), slash = options.continue_token.find('/', space);
    if (space == std::string::npos || slash == std::string::npos) {
      throw ApiError(400, "BadRequest", "the continue token is not valid");
    }
    result.resource_version = options.continue_token.substr(0, space);
    if (ParseVersion(result.resource_version) < forgotten_) {
      throw ApiError(410, "Expired", "The provided continue parameter is too old");
    }
    after = {options.continue_token.substr(space + 1, slash - space - 1), options.continue_token.substr(slash + 1)};
  }
  for (const auto& [key, object] : ObjectsOf(resource)) {
    if ((!ns.empty() && key.ns != ns) || (!options.continue_token.empty() && key <= after)) continue;
    if (!Matches(object, options.label_selector, options.field_selector)) continue;
    if (options.limit > 0 && static_cast<int64_t>(result.items.size()) == options.limit) {
      const Json& last = result.items.back()["metadata"];
      result.continue_token =
          result.resource_version + " " + last.value("namespace", "") + "/" + last["name"].get<std::string>();
      break;
    }
    result.items.push_back(object);
  }
  return result;
}

std::unique_ptr<kube::Watch> MemoryApi::StartWatch(const Resource& resource, const std::string& ns,
                                                   const kube::ListOptions& options) {
  const std::lock_guard lock(mutex_);
  Check("watch", resource);
  auto subscription = std::make_shared<Subscription>();
  subscription->resource = resource;
  subscription->ns = ns;
  subscription->labels = options.label_selector;
  subscription->field = options.field_selector;
  // As the real server: without a version first all that is there.
  if (options.resource_version.empty()) {
    for (const auto& [key, object] : ObjectsOf(resource)) {
      if (subscription->Wants(resource, object)) subscription->events.push_back({EventType::kAdded, object});
    }
  }
  const uint64_t from = options.resource_version.empty() ? version_ : ParseVersion(options.resource_version);
  if (from < forgotten_) throw ApiError(410, "Expired", "too old resource version: " + options.resource_version);
  for (const Event& event : history_) {
    if (event.version > from && subscription->Wants(event.resource, event.event.object)) {
      subscription->events.push_back(event.event);
    }
  }
  subscriptions_.push_back(subscription);
  return std::make_unique<MemoryWatch>(std::move(subscription));
}

Json MemoryApi::Create(const Resource& resource, const std::string& ns, const Json& object) {
  const std::lock_guard lock(mutex_);
  Check("create", resource);
  Json created = object;
  Json& metadata = created["metadata"];
  if (metadata.contains("generateName") && !metadata.contains("name")) {
    metadata["name"] = metadata["generateName"].get<std::string>() + NewUid().substr(0, 5);
  }
  if (!metadata.contains("name") || !metadata["name"].is_string() || metadata["name"].get<std::string>().empty()) {
    throw ApiError(422, "Invalid", resource.kind + ": metadata.name: Required value");
  }
  if (ns.empty() || ns.size() > 63 ||
      ns.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
    throw ApiError(422, "Invalid",
                   resource.kind + ": metadata.namespace: \"" + ns + "\" is no lowercase RFC 1123 label");
  }
  const std::string name = metadata["name"];
  if (name.size() > 253 || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-.") != std::string::npos) {
    throw ApiError(422, "Invalid",
                   resource.kind + " \"" + name + "\": metadata.name: a lowercase RFC 1123 name is needed");
  }
  if (metadata.contains("resourceVersion")) {
    throw ApiError(400, "BadRequest", "resourceVersion should not be set on objects to be created");
  }
  if (ObjectsOf(resource).count({ns, name})) {
    throw ApiError(409, "AlreadyExists", Describe(resource, name) + " already exists");
  }
  created["apiVersion"] = resource.api_version();
  created["kind"] = resource.kind;
  metadata["namespace"] = ns;
  if (resource.has_status && !(resource == kube::resources::kPod)) created.erase("status");
  if (options_.admit) created = options_.admit(resource, std::move(created));
  Json& stamped = created["metadata"];
  stamped["uid"] = NewUid();
  stamped["generation"] = 1;
  stamped["creationTimestamp"] = kube::FormatTime(clock_.Now());
  Store(resource, created, EventType::kAdded);
  ObjectsOf(resource)[{ns, name}] = created;
  return created;
}

Json MemoryApi::MergePatch(const Resource& resource, const std::string& ns, const std::string& name,
                           const Json& patch) {
  const std::lock_guard lock(mutex_);
  Check("patch", resource);
  Json& current = Find(resource, ns, name);
  RequireVersion(current["metadata"], patch, resource);
  Json next = current;
  Json allowed = patch;
  if (resource.has_status) allowed.erase("status");
  next.merge_patch(allowed);
  for (const char* fixed : {"uid", "name", "namespace", "creationTimestamp", "generation", "deletionTimestamp",
                            "deletionGracePeriodSeconds", "resourceVersion"}) {
    next["metadata"].erase(fixed);
    if (current["metadata"].contains(fixed)) next["metadata"][fixed] = current["metadata"][fixed];
  }
  if (options_.admit) next = options_.admit(resource, std::move(next));
  if (next == current) return current;
  if (next.value("spec", Json()) != current.value("spec", Json())) {
    next["metadata"]["generation"] = current["metadata"]["generation"].get<int64_t>() + 1;
  }
  const bool gone = next["metadata"].contains("deletionTimestamp") && !HasFinalizers(next["metadata"]) &&
                    HasFinalizers(current["metadata"]);
  Store(resource, next, EventType::kModified);
  current = next;
  if (gone) Remove(resource, {ns, name});
  return next;
}

Json MemoryApi::MergePatchStatus(const Resource& resource, const std::string& ns, const std::string& name,
                                 const Json& patch) {
  const std::lock_guard lock(mutex_);
  Check("patch-status", resource);
  Json& current = Find(resource, ns, name);
  RequireVersion(current["metadata"], patch, resource);
  Json next = current;
  if (patch.contains("status")) next.merge_patch(Json{{"status", patch["status"]}});
  if (next == current) return current;
  Store(resource, next, EventType::kModified);
  current = next;
  return next;
}

void MemoryApi::Delete(const Resource& resource, const std::string& ns, const std::string& name,
                       const kube::Preconditions& preconditions, std::optional<int64_t> grace_period_seconds) {
  const std::lock_guard lock(mutex_);
  Check("delete", resource);
  Json& object = Find(resource, ns, name);
  Json& metadata = object["metadata"];
  if ((preconditions.uid && metadata["uid"] != *preconditions.uid) ||
      (preconditions.resource_version && metadata["resourceVersion"] != *preconditions.resource_version)) {
    throw ApiError(409, "Conflict",
                   Describe(resource, name) + ": the precondition does not hold: it is another object");
  }
  const bool pod = resource == kube::resources::kPod;
  int64_t grace = 0;
  if (pod) {
    const std::string phase = object.value("status", Json::object()).value("phase", "Pending");
    const bool ended = phase == "Succeeded" || phase == "Failed";
    grace = grace_period_seconds.value_or(object["spec"].value("terminationGracePeriodSeconds", int64_t{30}));
    if (ended || !object.contains("status") || !object["status"].contains("startTime")) grace = 0;
  }
  if (grace > 0 || HasFinalizers(metadata)) {
    if (metadata.contains("deletionTimestamp")) return;
    Json next = object;
    next["metadata"]["deletionTimestamp"] = kube::FormatTime(clock_.Now() + std::chrono::seconds(grace));
    if (pod) next["metadata"]["deletionGracePeriodSeconds"] = grace;
    Store(resource, next, EventType::kModified);
    object = next;
    return;
  }
  Remove(resource, {ns, name});
}

void MemoryApi::Remove(const Resource& resource, const Key& key) {
  auto& objects = ObjectsOf(resource);
  const auto found = objects.find(key);
  if (found == objects.end()) return;
  Json object = std::move(found->second);
  objects.erase(found);
  Store(resource, object, EventType::kDeleted);
  CollectOrphans(object["metadata"]["uid"]);
}

void MemoryApi::CollectOrphans(const std::string& uid) {
  std::vector<std::pair<Resource, Key>> orphans;
  for (const auto& [name, kind] : kinds_) {
    for (const auto& [key, object] : kind.second) {
      const Json& metadata = object["metadata"];
      if (!metadata.contains("ownerReferences")) continue;
      for (const Json& reference : metadata["ownerReferences"]) {
        if (reference.value("uid", "") == uid) orphans.emplace_back(kind.first, key);
      }
    }
  }
  for (const auto& [resource, key] : orphans) {
    try {
      Delete(resource, key.ns, key.name, {}, std::nullopt);
    } catch (const ApiError& error) {
      if (!error.not_found()) throw;
    }
  }
}

bool MatchesSelector(const Json& labels, const std::string& selector) {
  std::istringstream terms(selector);
  for (std::string term; std::getline(terms, term, ',');) {
    auto has = [&](const std::string& key) { return labels.is_object() && labels.contains(key); };
    if (const size_t at = term.find("!="); at != std::string::npos) {
      const std::string key = term.substr(0, at);
      if (has(key) && labels[key] == term.substr(at + 2)) return false;
    } else if (const size_t equals = term.find('='); equals != std::string::npos) {
      const std::string key = term.substr(0, equals);
      const size_t value = term.find_first_not_of('=', equals);
      if (!has(key) || labels[key] != (value == std::string::npos ? "" : term.substr(value))) return false;
    } else if (!term.empty() && term[0] == '!') {
      if (has(term.substr(1))) return false;
    } else if (!term.empty() && !has(term)) {
      return false;
    }
  }
  return true;
}

}  // namespace anneal::local
