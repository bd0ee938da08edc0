#include "operator/kube/manager.h"

#include <algorithm>
#include <chrono>
#include <random>

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

std::vector<Key> Itself(const Json& object) {
  const Json& metadata = object.at("metadata");
  return {{metadata.value("namespace", ""), metadata.at("name").get<std::string>()}};
}

/// The key of the controlling owner of that kind, if there is one.
std::vector<Key> OwnerOf(const Json& object, const Resource& owner) {
  const Json& metadata = object.at("metadata");
  if (!metadata.contains("ownerReferences")) return {};
  for (const Json& reference : metadata["ownerReferences"]) {
    if (reference.value("controller", false) && reference.value("kind", "") == owner.kind &&
        reference.value("apiVersion", "") == owner.api_version()) {
      return {{metadata.value("namespace", ""), reference.value("name", "")}};
    }
  }
  return {};
}

}  // namespace

Manager::Manager(Api& api, std::vector<Reconciler*> reconcilers, int workers,
                 std::function<void(const std::string&)> log, ManagerOptions options)
    : api_(api), workers_(workers), log_(std::move(log)), options_(std::move(options)) {
  for (Reconciler* reconciler : reconcilers) {
    controllers_.push_back(std::make_unique<Controller>());
    controllers_.back()->reconciler = reconciler;
  }
}

Manager::~Manager() { Stop(); }

void Manager::Start() {
  // One list-watch per kind serves all reconcilers.
  for (const std::string& ns : options_.namespaces) {
    auto follow = [&](const Resource& resource, const std::string& selector, Route route) {
      for (Source& source : sources_) {
        if (source.resource == resource && source.ns == ns && source.selector == selector) {
          source.routes.push_back(std::move(route));
          return;
        }
      }
      sources_.push_back({resource, ns, selector, {std::move(route)}});
    };
    for (auto& controller : controllers_) {
      const Resource& primary = controller->reconciler->resource();
      follow(primary, "", {&controller->queue, Itself});
      for (const Resource& child : controller->reconciler->owns()) {
        follow(child, options_.child_selector,
               {&controller->queue, [primary](const Json& object) { return OwnerOf(object, primary); }});
      }
      for (const auto& [resource, mapper] : controller->reconciler->watches())
        follow(resource, "", {&controller->queue, mapper});
    }
  }
  unsynced_ = static_cast<int>(sources_.size());
  for (const Source& source : sources_) threads_.emplace_back([this, &source] { Follow(source); });
  for (auto& controller : controllers_) {
    for (int i = 0; i < workers_; ++i) threads_.emplace_back([this, &c = *controller] { Work(c); });
  }
}

void Manager::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& controller : controllers_) controller->queue.ShutDown();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void Manager::Enqueue(const Resource& resource, const Key& key) {
  for (auto& controller : controllers_) {
    if (controller->reconciler->resource() == resource) controller->queue.Add(key);
  }
}

std::map<std::string, size_t> Manager::depths() const {
  std::map<std::string, size_t> depths;
  for (const auto& controller : controllers_)
    depths[controller->reconciler->resource().kind] = controller->queue.depth();
  return depths;
}

void Manager::Wait(milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [&] { return stopping_.load(); });
}

std::vector<Manager::Concern> Manager::Concerns(const Source& source, const Json& object) {
  std::vector<Concern> concerns;
  for (const Route& route : source.routes) {
    for (const Key& key : route.mapper(object)) concerns.push_back({route.queue, key});
  }
  concerns.shrink_to_fit();
  return concerns;
}

// Lists everything in pages; what is gone since the last list is told to those it concerns. Nothing is taken over
// before the last page has come, so that half a list never looks like deletions.
std::string Manager::Relist(const Source& source, Known& known, bool first) {
  const auto priority = first ? WorkQueue::Priority::kInitial : WorkQueue::Priority::kFresh;
  for (int attempt = 0;; ++attempt) {
    Known now;
    ListOptions options;
    options.limit = options_.page;
    options.label_selector = source.selector;
    try {
      ListResult page;
      do {
        page = api_.List(source.resource, source.ns, options);
        for (const Json& item : page.items) {
          for (const Key& key : Itself(item)) now[key] = Concerns(source, item);
        }
        options.continue_token = page.continue_token;
      } while (!page.continue_token.empty() && !stopping_);
      if (stopping_) return "";
      for (const auto& [key, concerns] : known) {
        if (now.count(key)) continue;
        for (const Concern& concern : concerns) concern.queue->Add(concern.key);
      }
      for (const auto& [key, concerns] : now) {
        for (const Concern& concern : concerns) concern.queue->Add(concern.key, priority);
      }
      followed_ += now.size();
      followed_ -= known.size();
      known = std::move(now);
      return page.resource_version;
    } catch (const ApiError& error) {
      // An expired continue token: from the first page again.
      if (!error.expired() || attempt >= 3) throw;
    }
  }
}

bool Manager::Drain(const Source& source, Watch& watch, Known& known, std::string& version, size_t& events) {
  while (!stopping_ && !watch.done()) {
    const auto event = watch.Next(milliseconds(200));
    if (!event) continue;
    ++events;
    if (event->type == EventType::kError) {
      const int code = event->object.value("code", 0);
      log_("watching " + source.resource.plural + ": " + event->object.value("message", "an ERROR event"));
      return code != 410 && event->object.value("reason", "") != "Expired";
    }
    const std::string seen = event->object.at("metadata").value("resourceVersion", "");
    if (event->type != EventType::kBookmark) {
      const Key key = Itself(event->object).front();
      auto concerns = Concerns(source, event->object);
      for (const Concern& concern : concerns) concern.queue->Add(concern.key);
      followed_ -= known.count(key);
      if (event->type == EventType::kDeleted) {
        known.erase(key);
      } else {
        known[key] = std::move(concerns);
        ++followed_;
      }
    }
    if (!seen.empty()) version = seen;
  }
  return true;
}

// List, then watch from the list's version. A stream that ends goes on from the last version seen; only a version that
// is too old makes a new list. Failures back off: a weak server is not asked at full speed.
void Manager::Follow(const Source& source) {
  using Steady = std::chrono::steady_clock;
  std::minstd_rand random(std::random_device{}());
  milliseconds backoff = options_.first_backoff;
  Known known;
  std::string version;
  bool listed = false;
  auto back_off = [&] {
    Wait(backoff + milliseconds(random() % static_cast<unsigned>(backoff.count() + 1)));
    backoff = std::min(backoff * 2, options_.longest_backoff);
  };
  while (!stopping_) {
    std::string reason = "ended";
    try {
      if (version.empty()) {
        version = Relist(source, known, !listed);
        if (stopping_) return;
        if (!listed && --unsynced_ == 0) changed_.notify_all();
        listed = true;
      }
      ListOptions from;
      from.resource_version = version;
      from.label_selector = source.selector;
      const auto began = Steady::now();
      const auto watch = api_.StartWatch(source.resource, source.ns, from);
      size_t events = 0;
      if (!Drain(source, *watch, known, version, events)) {
        version.clear();
        reason = "expired";
      }
      const auto lasted = Steady::now() - began;
      if (lasted > std::chrono::minutes(2) || (events > 0 && reason != "expired")) backoff = options_.first_backoff;
      if (!stopping_ && (lasted < std::chrono::seconds(1) || reason == "expired")) back_off();
    } catch (const ApiError& error) {
      if (stopping_) return;
      log_(std::string(error.what()));
      if (error.expired()) version.clear();
      reason = error.expired() ? "expired" : "error";
      back_off();
    } catch (const std::exception& error) {
      if (stopping_) return;
      log_("watching " + source.resource.plural + ": " + error.what());
      reason = "error";
      back_off();
    }
    if (!stopping_ && options_.reconnected) options_.reconnected(source.resource.plural, reason);
  }
}

void Manager::Work(Controller& controller) {
  {
    std::unique_lock lock(mutex_);
    // Polls as well: the last sync is counted outside the lock.
    while (!synced() && !stopping_) changed_.wait_for(lock, milliseconds(50));
  }
  const std::string& kind = controller.reconciler->resource().kind;
  while (const auto key = controller.queue.Get()) {
    const auto began = std::chrono::steady_clock::now();
    std::string outcome = "error", message;
    try {
      const ReconcileResult result = controller.reconciler->Reconcile(*key);
      controller.queue.Forget(*key);
      if (result.requeue_after) controller.queue.AddAfter(*key, *result.requeue_after);
      outcome = result.requeue_after ? "requeue_after" : "success";
    } catch (const ApiError& error) {
      // A conflict only says that what was read is old: read again at once.
      if (error.conflict()) {
        outcome = "requeue";
      } else {
        message = error.what();
      }
    } catch (const std::exception& error) {
      message = error.what();
    } catch (...) {
      message = "unknown exception";
    }
    if (!message.empty()) log_(kind + " " + key->ns + "/" + key->name + ": " + message);
    if (outcome == "error" || outcome == "requeue") controller.queue.AddRateLimited(*key);
    controller.queue.Done(*key);
    if (options_.reconciled) {
      options_.reconciled(kind, outcome,
                          std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    }
  }
}

}  // namespace anneal::kube
