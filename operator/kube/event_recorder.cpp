#include "operator/kube/event_recorder.h"

#include <algorithm>
#include <functional>

namespace anneal::kube {
namespace {

constexpr size_t kQueue = 1000;
constexpr int kTries = 12;
constexpr const char* kCombined = "(combined from similar events): ";

uint64_t HashOf(const std::string& text) { return std::hash<std::string>()(text); }

std::string Hex(uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
  return text;
}

}  // namespace

bool EventCorrelator::Spends(const std::string& uid, Clock::Time now) {
  if (budgets_.size() > kRemembered) budgets_.clear();
  Budget& budget = budgets_.try_emplace(HashOf(uid), Budget{kBurst, now}).first->second;
  const double passed = std::chrono::duration<double>(now - budget.filled).count();
  budget.tokens = std::min<double>(kBurst, budget.tokens + passed / static_cast<double>(kRefill.count()));
  budget.filled = now;
  if (budget.tokens < 1) return false;
  budget.tokens -= 1;
  return true;
}

// More than kSimilar different messages of one reason within the window are told as one.
bool EventCorrelator::IsOneOfMany(Hash key, const std::string& message, Clock::Time now) {
  if (groups_.size() > kRemembered) groups_.clear();
  Group& group = groups_.try_emplace(key, Group{now, {}}).first->second;
  if (now - group.begin > kWindow) group = {now, {}};
  if (static_cast<int>(group.messages.size()) <= kSimilar) group.messages.insert(HashOf(message));
  return static_cast<int>(group.messages.size()) > kSimilar;
}

std::optional<EventCorrelator::Verdict> EventCorrelator::Take(const Json& object, const EventFact& fact,
                                                              Clock::Time now) {
  const Json& metadata = object["metadata"];
  const std::string uid = metadata.value("uid", ""), ns = metadata.value("namespace", "default"),
                    name = metadata["name"], type = fact.warning ? "Warning" : "Normal";
  if (!Spends(uid, now)) return std::nullopt;
  std::string message = fact.message.substr(0, 1024);
  const Hash group{HashOf(uid), HashOf(type + "|" + fact.reason)};
  Hash key{HashOf(uid), HashOf(type + "|" + fact.reason + "|" + message)};
  if (IsOneOfMany(group, message, now)) {
    message = (kCombined + message).substr(0, 1024);
    key = group;
  }
  const std::string time = FormatTime(now);
  if (const auto found = told_.find(key); found != told_.end()) {
    Told& told = found->second;
    ++told.count;
    return Verdict{told.ns, told.name, false, {{"count", told.count}, {"lastTimestamp", time}, {"message", message}}};
  }
  Told told{ns, name + "." + Hex(HashOf(uid + instance_ + time) + ++number_), 1};
  if (told_.size() >= kRemembered) {
    told_.erase(order_.front());
    order_.pop_front();
  }
  told_[key] = told;
  order_.push_back(key);
  Json event = {{"metadata", {{"name", told.name}, {"namespace", ns}}},
                {"involvedObject",
                 {{"apiVersion", object["apiVersion"]},
                  {"kind", object["kind"]},
                  {"namespace", ns},
                  {"name", name},
                  {"uid", uid}}},
                {"type", type},
                {"reason", fact.reason},
                {"message", message},
                {"count", 1},
                {"firstTimestamp", time},
                {"lastTimestamp", time},
                {"source", {{"component", "anneal-operator"}}},
                {"reportingComponent", "anneal-operator"},
                {"reportingInstance", instance_}};
  return Verdict{ns, told.name, true, std::move(event)};
}

void EventCorrelator::Forget(const std::string& ns, const std::string& name) {
  for (auto told = told_.begin(); told != told_.end(); ++told) {
    if (told->second.name != name || told->second.ns != ns) continue;
    order_.remove(told->first);
    told_.erase(told);
    return;
  }
}

EventRecorder::EventRecorder(Api& api, const Clock& clock, const std::string& instance)
    : api_(api), clock_(clock), correlator_(instance), thread_([this] { Loop(); }) {}

EventRecorder::~EventRecorder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    give_up_ = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  }
  changed_.notify_all();
  thread_.join();
}

void EventRecorder::Record(const Json& object, const EventFact& fact) {
  const Json& metadata = object["metadata"];
  Json brief = {{"apiVersion", object["apiVersion"]},
                {"kind", object["kind"]},
                {"metadata",
                 {{"name", metadata["name"]},
                  {"namespace", metadata.value("namespace", "default")},
                  {"uid", metadata.value("uid", "")}}}};
  const std::lock_guard lock(mutex_);
  if (stopping_ || waiting_.size() >= kQueue) return;
  waiting_.push_back({std::move(brief), fact, clock_.Now()});
  changed_.notify_all();
}

void EventRecorder::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty() || (stopping_ && std::chrono::steady_clock::now() > give_up_)) return;
    const Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Send(next);
    lock.lock();
  }
}

void EventRecorder::Send(const Waiting& waiting) {
  auto verdict = correlator_.Take(waiting.object, waiting.fact, waiting.time);
  for (int attempt = 1; verdict && attempt <= kTries; ++attempt) {
    try {
      if (verdict->create) {
        api_.Create(resources::kEvent, verdict->ns, verdict->body);
      } else {
        api_.MergePatch(resources::kEvent, verdict->ns, verdict->name, verdict->body);
      }
      return;
    } catch (const ApiError& error) {
      if (error.not_found() && !verdict->create) {
        correlator_.Forget(verdict->ns, verdict->name);
        verdict = correlator_.Take(waiting.object, waiting.fact, waiting.time);
        continue;
      }
      if (error.status() != 0 && error.status() != 429 && error.status() < 500) return;  // it will never be taken
    } catch (const std::exception&) {
    }
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, std::chrono::milliseconds(300 * attempt), [&] { return stopping_; }) &&
        std::chrono::steady_clock::now() > give_up_)
      return;
  }
}

}  // namespace anneal::kube
