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
  if (found != queued_.end()) {
    if (found->second.first <= priority) return;
    ready_.erase({found->second, key});
  }
  const Place place{priority, ++sequence_};
  queued_[key] = place;
  ready_.emplace(place, key);
  changed_.notify_one();
}

void WorkQueue::AddAfter(const Key& key, std::chrono::milliseconds delay) {
  if (delay.count() <= 0) return Add(key);
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  const auto due = Steady::now() + delay;
  const auto found = due_.find(key);
  if (found != due_.end()) {
    if (found->second <= due) return;
    delayed_.erase({found->second, key});
  }
  due_[key] = due;
  delayed_.emplace(due, key);
  changed_.notify_one();
}

void WorkQueue::AddRateLimited(const Key& key) {
  int failures = 0;
  {
    const std::lock_guard lock(mutex_);
    failures = failures_[key]++;
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
    const Key key = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    due_.erase(key);
    Insert(key, Priority::kFresh);
  }
}

size_t WorkQueue::depth() const {
  const std::lock_guard lock(mutex_);
  return ready_.size();
}

size_t WorkQueue::active() const {
  const std::lock_guard lock(mutex_);
  return processing_.size();
}

std::optional<Key> WorkQueue::Get() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopped_) return std::nullopt;
    Promote();
    if (!ready_.empty()) break;
    if (delayed_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, delayed_.begin()->first);
    }
  }
  const Key key = ready_.begin()->second;
  ready_.erase(ready_.begin());
  queued_.erase(key);
  processing_.insert(key);
  return key;
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
