#include "tests/fault/stepped_operator.h"

#include <algorithm>

namespace anneal::fault {

using kube::ApiError;
using kube::Json;
using std::chrono::milliseconds;

SteppedOperator::SteppedOperator(kube::Api& api, const kube::Clock& clock)
    : api_(api),
      clock_(clock),
      poller_(milliseconds(0), [](const kube::Resource&, const kube::Key&) {}),
      reconcilers_(controllers::MakeReconcilers({api, clock, poller_, &children_, &own_writes_})) {
  std::vector<const kube::Reconciler*> readers;
  for (const auto& reconciler : reconcilers_) readers.push_back(reconciler.get());
  router_ = std::make_unique<kube::EventRouter>(readers, &children_, &own_writes_);
  watches_.resize(router_->sources().size());
  listed_again_.resize(router_->sources().size());
}

void SteppedOperator::Queue(const std::vector<Wake>& wakes) {
  for (const Wake& wake : wakes) {
    if (std::find(ready_.begin(), ready_.end(), wake) == ready_.end()) ready_.push_back(wake);
  }
}

void SteppedOperator::Later(const Wake& wake, kube::Clock::Time time) {
  const auto found = timers_.find(wake);
  if (found == timers_.end() || time < found->second) timers_[wake] = time;
}

// As the manager: list, watch from the list's version; an ended watch is listed anew.
void SteppedOperator::Follow(size_t source) {
  const kube::EventRouter::Source& kind = router_->sources()[source];
  kube::ListOptions options;
  if (kind.child) options.label_selector = "app.kubernetes.io/managed-by=anneal-operator";
  if (!watches_[source]) {
    if (clock_.Now() < listed_again_[source]) return;
    listed_again_[source] = clock_.Now() + std::chrono::seconds(1);
    try {
      options.limit = 3;
      std::vector<kube::EventRouter::Trace> traces;
      std::string version;
      do {
        const kube::ListResult page = api_.List(kind.resource, "", options);
        for (const Json& item : page.items) traces.push_back(router_->Read(source, item));
        options.continue_token = page.continue_token;
        version = page.resource_version;
      } while (!options.continue_token.empty());
      options.continue_token.clear();
      options.resource_version = version;
      watches_[source] = api_.StartWatch(kind.resource, "", options);
      Queue(router_->Replaced(source, "", std::move(traces)));
    } catch (const ApiError&) {
      return;  // tried again after a second
    }
  }
  while (watches_[source]) {
    const auto event = watches_[source]->Next(milliseconds(0));
    if (!event) break;
    if (event->type == kube::EventType::kError) {
      watches_[source].reset();
      break;
    }
    auto trace = router_->Read(source, event->object);
    Queue(event->type == kube::EventType::kDeleted ? router_->Gone(source, trace)
                                                   : router_->Changed(source, std::move(trace)));
  }
}

bool SteppedOperator::Step() {
  for (size_t source = 0; source < watches_.size(); ++source) Follow(source);
  if (std::any_of(watches_.begin(), watches_.end(), [](const auto& watch) { return !watch; })) return false;
  for (auto timer = timers_.begin(); timer != timers_.end();) {
    if (timer->second > clock_.Now()) {
      ++timer;
      continue;
    }
    Queue({timer->first});
    timer = timers_.erase(timer);
  }
  if (ready_.empty()) return false;
  const Wake wake = ready_.front();
  ready_.pop_front();
  Reconcile(wake);
  return true;
}

void SteppedOperator::Reconcile(const Wake& wake) {
  try {
    const kube::ReconcileResult result = reconcilers_[wake.reconciler]->Reconcile(wake.key);
    failures_.erase(wake);
    if (result.requeue_after) Later(wake, clock_.Now() + *result.requeue_after);
  } catch (const ApiError&) {
    TryAgain(wake);
  } catch (const std::exception& error) {
    surprises_.push_back(wake.key.name + ": " + error.what());
    TryAgain(wake);
  }
}

void SteppedOperator::TryAgain(const Wake& wake) {
  const int failures = std::min(failures_[wake]++, 12);
  Later(wake, clock_.Now() + milliseconds(5 << failures));
}

std::optional<kube::Clock::Time> SteppedOperator::Next() const {
  std::optional<kube::Clock::Time> next;
  for (const auto& [wake, time] : timers_) next = next ? std::min(*next, time) : time;
  for (size_t source = 0; source < watches_.size(); ++source) {
    if (!watches_[source]) next = next ? std::min(*next, listed_again_[source]) : listed_again_[source];
  }
  return next;
}

}  // namespace anneal::fault
