#include "operator/kube/work_queue.h"

#include <algorithm>

namespace anneal::kube {

void WorkQueue::Add(const Key& key, Priority priority) {
  const std::lock_guard lock(mutex_);
  if (!stopped_) Insert(key, priority);
}

void WorkQueue::Insert(const Key& key, Priority priority) {
  if (processing_.count(key)) {
    again_.insert(key);
    return;
  }
  const auto found = queued_.find(key);
  Queued queued{{priority, ++sequence_}, Steady::now()};
  if (found != queued_.end()) {
    if (found->second.place.first <= priority) return;
    ready_.erase({found->second.place, key});
    queued.since = found->second.since;
  } else {
    ++adds_;
  }
  queued_[key] = queued;
  ready_.emplace(queued.place, key);
  changed_.notify_one();
}

void WorkQueue::AddAfter(const Key& key, std::chrono::milliseconds delay) {
  if (delay.count() <= 0) return Add(key);
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  const auto due = Steady::now() + delay;
  const auto [entry, is_new] = due_.try_emplace(key, due);
  if (!is_new) {
    if (entry->second <= due) return;
    delayed_.erase({entry->second, &entry->first});
    entry->second = due;
  }
  delayed_.emplace(due, &entry->first);
  changed_.notify_one();
}

void WorkQueue::AddRateLimited(const Key& key) {
  int failures = 0;
  {
    const std::lock_guard lock(mutex_);
    failures = failures_[key]++;
    ++retries_;
  }
  const int64_t delay = failures >= 18 ? 1'000'000 : std::min<int64_t>(int64_t{5} << failures, 1'000'000);
  AddAfter(key, std::chrono::milliseconds(delay));
}

void WorkQueue::Forget(const Key& key) {
  const std::lock_guard lock(mutex_);
  failures_.erase(key);
}

// Moves what has become due to the ready set.
void WorkQueue::Promote() {
  const auto now = Steady::now();
  while (!delayed_.empty() && delayed_.begin()->first <= now) {
    const Key key = *delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    due_.erase(key);
    Insert(key, Priority::kFresh);
  }
}

WorkQueue::State WorkQueue::state() const {
  const std::lock_guard lock(mutex_);
  State state{ready_.size(), processing_.size(), adds_, retries_};
  for (const auto& [key, since] : processing_) {
    const double seconds = std::chrono::duration<double>(Steady::now() - since).count();
    state.unfinished += seconds;
    state.longest = std::max(state.longest, seconds);
  }
  return state;
}

std::optional<Key> WorkQueue::Get(std::chrono::duration<double>* waited) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopped_) return std::nullopt;
    Promote();
    if (!ready_.empty()) break;
    if (delayed_.empty()) {
      changed_.wait(lock);
    } else {
      const auto due = delayed_.begin()->first;  // the entry may go meanwhile
      changed_.wait_until(lock, due);
    }
  }
  const Key key = ready_.begin()->second;
  const auto now = Steady::now();
  if (waited) *waited = now - queued_.at(key).since;
  ready_.erase(ready_.begin());
  queued_.erase(key);
  // Whoever waits for the next time of all may just have been woken for this key.
  if (!ready_.empty() || !delayed_.empty()) changed_.notify_one();
  processing_[key] = now;
  return key;
}

bool WorkQueue::Take(const Key& key) {
  const std::lock_guard lock(mutex_);
  if (stopped_ || processing_.count(key)) return false;
  if (const auto found = queued_.find(key); found != queued_.end()) {
    ready_.erase({found->second.place, key});
    queued_.erase(found);
    again_.insert(key);
  }
  processing_[key] = Steady::now();
  return true;
}

void WorkQueue::Done(const Key& key) {
  bool again = false;
  {
    const std::lock_guard lock(mutex_);
    processing_.erase(key);
    again = again_.erase(key) > 0;
  }
  if (again) Add(key);
}

void WorkQueue::ShutDown() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

}  // namespace anneal::kube
