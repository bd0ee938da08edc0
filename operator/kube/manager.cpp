#include "operator/kube/manager.h"

#include <algorithm>
#include <chrono>
#include <random>

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

std::vector<const Reconciler*> Readers(const std::vector<Reconciler*>& reconcilers) {
  return {reconcilers.begin(), reconcilers.end()};
}

/// No operator has looked at this state of the spec yet.
bool Unserved(const Json& object) {
  const auto status = object.find("status");
  if (status == object.end() || !status->is_object()) return true;
  const auto seen = status->find("observedGeneration");
  return seen == status->end() || *seen != object.at("metadata").value("generation", Json());
}

}  // namespace

Manager::Manager(Api& api, std::vector<Reconciler*> reconcilers, int workers,
                 std::function<void(const std::string&)> log, ManagerOptions options)
    : api_(api),
      workers_(workers),
      log_(std::move(log)),
      options_(std::move(options)),
      router_(Readers(reconcilers), options_.children, options_.own_writes) {
  for (Reconciler* reconciler : reconcilers) {
    controllers_.push_back(std::make_unique<Controller>());
    controllers_.back()->reconciler = reconciler;
  }
}

Manager::~Manager() { Stop(); }

void Manager::Start() {
  // One list-watch per kind serves all reconcilers.
  for (const std::string& ns : options_.namespaces) {
    for (size_t i = 0; i < router_.sources().size(); ++i)
      sources_.push_back({i, ns, router_.sources()[i].child ? options_.child_selector : ""});
  }
  unlisted_ = static_cast<int>(sources_.size());
  if (!options_.unserved.empty()) {
    for (auto& controller : controllers_) {
      for (const std::string& ns : options_.namespaces)
        threads_.emplace_back([this, &c = *controller, &ns] { Welcome(c, ns); });
    }
  }
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

std::vector<Manager::KindState> Manager::kinds() const {
  std::vector<KindState> kinds;
  for (size_t i = 0; i < controllers_.size(); ++i) {
    const Controller& controller = *controllers_[i];
    kinds.push_back({controller.reconciler->resource().kind, controller.queue.state(), router_.Phases(i)});
  }
  return kinds;
}

void Manager::Wait(milliseconds time) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, time, [&] { return stopping_.load(); });
}

void Manager::Queue(const std::vector<EventRouter::Wake>& wakes, WorkQueue::Priority priority) {
  for (const EventRouter::Wake& wake : wakes) controllers_[wake.reconciler]->queue.Add(wake.key, priority);
}

// Lists everything in pages; what is gone since the last list is told to those it concerns. Nothing is taken over
// before the last page has come, so that half a list never looks like deletions.
std::string Manager::Relist(const Source& source, bool first) {
  const EventRouter::Source& what = router_.sources()[source.number];
  for (int attempt = 0;; ++attempt) {
    std::vector<EventRouter::Trace> traces;
    std::vector<Key> unserved;
    ListOptions options;
    options.limit = options_.page;
    options.label_selector = source.selector;
    try {
      ListResult page;
      do {
        page = api_.List(what.resource, source.ns, options);
        for (const Json& item : page.items) {
          traces.push_back(router_.Read(source.number, item));
          if (first) traces.back().own = false;  // whoever was welcomed is looked at again, with all that is known then
          if (first && !what.child && Unserved(item)) unserved.push_back(traces.back().key);
        }
        options.continue_token = page.continue_token;
      } while (!page.continue_token.empty() && !stopping_);
      if (stopping_) return "";
      Queue(router_.Replaced(source.number, source.ns, std::move(traces)),
            first ? WorkQueue::Priority::kInitial : WorkQueue::Priority::kFresh);
      // What came or changed while no operator ran does not wait behind all that only has to be looked at again.
      for (const Key& key : unserved) Enqueue(what.resource, key);
      return page.resource_version;
    } catch (const ApiError& error) {
      // An expired continue token: from the first page again.
      if (!error.expired() || attempt >= 3) throw;
    }
  }
}

bool Manager::Drain(const Source& source, Watch& watch, std::string& version, size_t& events) {
  while (!stopping_ && !watch.done()) {
    const auto event = watch.Next(milliseconds(200));
    if (!event) continue;
    ++events;
    if (event->type == EventType::kError) {
      const int code = event->object.value("code", 0);
      log_("watching " + router_.sources()[source.number].resource.plural + ": " +
           event->object.value("message", "an ERROR event"));
      return code != 410 && event->object.value("reason", "") != "Expired";
    }
    const std::string seen = event->object.at("metadata").value("resourceVersion", "");
    if (event->type != EventType::kBookmark) {
      EventRouter::Trace trace = router_.Read(source.number, event->object);
      Queue(event->type == EventType::kDeleted ? router_.Gone(source.number, trace)
                                               : router_.Changed(source.number, std::move(trace)),
            WorkQueue::Priority::kFresh);
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
  const Resource& resource = router_.sources()[source.number].resource;
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
        version = Relist(source, !listed);
        if (stopping_) return;
        if (!listed && --unlisted_ == 0) changed_.notify_all();
        listed = true;
      }
      ListOptions from;
      from.resource_version = version;
      from.label_selector = source.selector;
      const auto began = Steady::now();
      const auto watch = api_.StartWatch(resource, source.ns, from);
      size_t events = 0;
      if (!Drain(source, *watch, version, events)) {
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
      log_("watching " + resource.plural + ": " + error.what());
      reason = "error";
      back_off();
    }
    if (!stopping_ && options_.reconnected) options_.reconnected(resource.plural, reason);
  }
}

void Manager::Work(Controller& controller) {
  {
    std::unique_lock lock(mutex_);
    // Polls as well: the last sync is counted outside the lock.
    while (!synced() && !stopping_) changed_.wait_for(lock, milliseconds(50));
  }
  std::chrono::duration<double> waited{};
  while (const auto key = controller.queue.Get(&waited)) {
    Handle(controller, *key, waited.count(), &Reconciler::Reconcile);
  }
}

// Who comes now does not wait for thousands that only have to be looked at again. Whatever goes wrong here, they are
// served with all others.
void Manager::Welcome(Controller& controller, const std::string& ns) {
  const Resource& resource = controller.reconciler->resource();
  while (!synced() && !stopping_) {
    try {
      ListOptions unserved;  // without a version: those that are there come first
      unserved.field_selector = options_.unserved;
      const auto watch = api_.StartWatch(resource, ns, unserved);
      while (!synced() && !stopping_ && !watch->done()) {
        const auto event = watch->Next(milliseconds(50));
        if (!event || event->type != EventType::kAdded || synced()) continue;
        const Json& metadata = event->object.at("metadata");
        const Key key{metadata.value("namespace", ""), metadata.at("name")};
        if (controller.queue.Take(key)) Handle(controller, key, 0, &Reconciler::Welcome);
      }
    } catch (const ApiError& error) {
      if (error.status() == 400) return;  // the server cannot select by it
      log_("looking for new " + resource.plural + ": " + error.what());
    } catch (const std::exception& error) {
      log_("looking for new " + resource.plural + ": " + error.what());
    }
    if (!synced()) Wait(options_.first_backoff);
  }
}

void Manager::Handle(Controller& controller, const Key& key, double waited,
                     ReconcileResult (Reconciler::*look)(const Key&)) {
  const auto began = std::chrono::steady_clock::now();
  std::string outcome = "error", message;
  bool unexpected = false;
  try {
    const ReconcileResult result = (controller.reconciler->*look)(key);
    controller.queue.Forget(key);
    if (result.requeue_after) controller.queue.AddAfter(key, *result.requeue_after);
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
    unexpected = true;
  }
  if (outcome == "error" || outcome == "requeue") controller.queue.AddRateLimited(key);
  controller.queue.Done(key);
  if (options_.reconciled) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    options_.reconciled(
        {controller.reconciler->resource().kind, outcome, waited, took.count(), unexpected, key, message});
  }
}

}  // namespace anneal::kube
