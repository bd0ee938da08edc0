#include "operator/kube/manager.h"

#include <chrono>

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
                 std::function<void(const std::string&)> log)
    : api_(api), workers_(workers), log_(std::move(log)) {
  for (Reconciler* reconciler : reconcilers) {
    controllers_.push_back(std::make_unique<Controller>());
    controllers_.back()->reconciler = reconciler;
  }
}

Manager::~Manager() { Stop(); }

void Manager::Start() {
  for (auto& controller : controllers_) {
    const Resource& primary = controller->reconciler->resource();
    auto follow = [&](const Resource& resource, Mapper mapper) {
      threads_.emplace_back([this, resource, &queue = controller->queue, mapper] { Follow(resource, queue, mapper); });
    };
    follow(primary, Itself);
    for (const Resource& child : controller->reconciler->owns()) {
      follow(child, [primary](const Json& object) { return OwnerOf(object, primary); });
    }
    for (const auto& [resource, mapper] : controller->reconciler->watches()) follow(resource, mapper);
    for (int i = 0; i < workers_; ++i) threads_.emplace_back([this, &c = *controller] { Work(c); });
  }
}

void Manager::Stop() {
  stopping_ = true;
  for (auto& controller : controllers_) controller->queue.ShutDown();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

void Manager::Enqueue(const Resource& resource, const Key& key) {
  for (auto& controller : controllers_) {
    if (controller->reconciler->resource() == resource) controller->queue.Add(key);
  }
}

// List, then watch from the list's version; a watch that expired or broke starts over with a list.
void Manager::Follow(const Resource& resource, WorkQueue& queue, const Mapper& mapper) {
  milliseconds backoff(100);
  auto enqueue = [&](const Json& object) {
    for (const Key& key : mapper(object)) queue.Add(key);
  };
  while (!stopping_) {
    try {
      ListOptions options;
      options.limit = 500;
      ListResult page;
      do {
        page = api_.List(resource, "", options);
        for (const Json& item : page.items) enqueue(item);
        options.continue_token = page.continue_token;
      } while (!page.continue_token.empty() && !stopping_);
      ListOptions from;
      from.resource_version = page.resource_version;
      const auto watch = api_.StartWatch(resource, "", from);
      backoff = milliseconds(100);
      while (!stopping_ && !watch->done()) {
        const auto event = watch->Next(milliseconds(200));
        if (!event || event->type == EventType::kBookmark) continue;
        if (event->type == EventType::kError) break;
        enqueue(event->object);
      }
    } catch (const std::exception& error) {
      if (stopping_) return;
      log_("watching " + resource.plural + ": " + error.what());
      std::this_thread::sleep_for(backoff);
      backoff = std::min(backoff * 2, milliseconds(30'000));
    }
  }
}

void Manager::Work(Controller& controller) {
  while (const auto key = controller.queue.Get()) {
    try {
      const ReconcileResult result = controller.reconciler->Reconcile(*key);
      controller.queue.Forget(*key);
      if (result.requeue_after) controller.queue.AddAfter(*key, *result.requeue_after);
    } catch (const ApiError& error) {
      // A conflict only says that what was read is old: read again at once.
      if (!error.conflict()) log_(controller.reconciler->resource().kind + " " + key->ns + "/" + key->name + ": " + error.what());
      controller.queue.AddRateLimited(*key);
    } catch (const std::exception& error) {
      log_(controller.reconciler->resource().kind + " " + key->ns + "/" + key->name + ": " + error.what());
      controller.queue.AddRateLimited(*key);
    }
    controller.queue.Done(*key);
  }
}

}  // namespace anneal::kube
