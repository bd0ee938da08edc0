#include "tests/fault/faulty_api.h"

#include <algorithm>

#include "operator/local/memory_api.h"

namespace anneal::fault {
namespace {

using kube::ApiError;
using kube::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Time = kube::Clock::Time;

constexpr seconds kLag{15}, kSilence{40};

}  // namespace

/// A watch whose notifications the plan may lose, delay, double or reorder.
class FaultyWatch : public kube::Watch {
 public:
  FaultyWatch(std::unique_ptr<kube::Watch> watch, PlanState& state, std::function<Time()> now)
      : watch_(std::move(watch)), state_(state), now_(std::move(now)) {}

  std::optional<kube::WatchEvent> Next(milliseconds) override {
    while (auto event = watch_->Next(milliseconds(0))) Take(std::move(*event));
    if (silent_until_ && *silent_until_ <= now_()) {
      silent_until_.reset();
      ended_ = true;
      return kube::WatchEvent{kube::EventType::kError, {{"code", 410}, {"reason", "Expired"}}};
    }
    if (held_.empty() || held_.front().first > now_()) return std::nullopt;
    kube::WatchEvent event = std::move(held_.front().second);
    held_.pop_front();
    return event;
  }
  void Cancel() override { watch_->Cancel(); }
  bool done() const override { return ended_; }

 private:
  Fault FaultNow() {
    const int count = ++state_.notifications;
    if (!state_.armed) return Fault::kNone;
    if (state_.plan.fault == Fault::kSoak) {
      constexpr Fault kAny[] = {Fault::kDrop, Fault::kDelay, Fault::kDuplicate, Fault::kReorder, Fault::kCoalesce};
      return state_.random() % 50 == 0 ? kAny[state_.random() % 5] : Fault::kNone;
    }
    return count == state_.plan.at ? state_.plan.fault : Fault::kNone;
  }

  void Take(kube::WatchEvent event) {
    const Fault fault = FaultNow();
    if (silent_until_) return;
    switch (fault) {
      case Fault::kDrop:
        silent_until_ = now_() + kSilence;
        return;
      case Fault::kDelay:
        lags_until_ = now_() + kLag;
        break;
      case Fault::kCoalesce:
        lags_until_ = now_() + kLag;
        coalesce_ = true;
        break;
      case Fault::kReorder:  // the other kinds' watches go on meanwhile
        held_.emplace_back(now_() + seconds(3), std::move(event));
        return;
      case Fault::kDuplicate:
        held_.emplace_back(now_(), event);
        break;
      default:
        break;
    }
    const bool lags = now_() < lags_until_;
    if (lags && coalesce_) {
      std::erase_if(held_, [&](const auto& held) {
        return held.second.object["metadata"]["name"] == event.object["metadata"]["name"] &&
               held.second.object["metadata"]["namespace"] == event.object["metadata"]["namespace"];
      });
    }
    held_.emplace_back(lags ? lags_until_ : now_(), std::move(event));
  }

  std::unique_ptr<kube::Watch> watch_;
  PlanState& state_;
  std::function<Time()> now_;
  std::deque<std::pair<Time, kube::WatchEvent>> held_;  ///< with the time when each is told
  std::optional<Time> silent_until_;
  Time lags_until_{};
  bool coalesce_ = false, ended_ = false;
};

FaultyApi::FaultyApi(kube::Api& server, PlanState& state, Surroundings surroundings)
    : server_(server), state_(state), world_(std::move(surroundings)) {}

bool FaultyApi::Strikes(Fault fault, int count) {
  if (!state_.armed || state_.struck || state_.plan.fault != fault || state_.plan.at != count) return false;
  state_.struck = true;
  return true;
}

bool FaultyApi::Chance(double percent) {
  return std::uniform_real_distribution<double>(0, 100)(state_.random) < percent;
}

// A call fails before it is done, or, `done`, after: then the caller cannot know.
void FaultyApi::FailPerhaps(bool write, bool done) {
  if (!state_.armed) return;
  const bool soak = state_.plan.fault == Fault::kSoak;
  if (state_.plan.fault != Fault::kErrors && !soak) return;
  if (!Chance((soak ? 4 : state_.plan.at) * (done ? 0.3 : 1.0))) return;
  if (done) {
    if (write) throw ApiError(0, "Timeout", "injected: the answer is lost");
    return;
  }
  switch (state_.random() % 6) {
    case 0:
      throw ApiError(409, write ? "Conflict" : "AlreadyExists", "injected conflict");
    case 1:
      throw ApiError(410, "Expired", "injected");
    case 2:
      throw ApiError(429, "TooManyRequests", "injected");
    case 3:
      throw ApiError(500, "InternalError", "injected");
    case 4:
      throw ApiError(503, "ServiceUnavailable", "injected");
    default:
      throw ApiError(0, "Timeout", "injected: the request is lost");
  }
}

template <class Call>
auto FaultyApi::Write(const Call& call) {
  if (!world_.may_write()) throw ApiError(0, "NotLeading", "not sent: another replica may lead by now");
  const int count = ++state_.writes;
  const bool soak = state_.armed && state_.plan.fault == Fault::kSoak;
  if (Strikes(Fault::kCrashBefore, count) || (soak && Chance(1))) throw Killed();
  const bool late = (Strikes(Fault::kTwoLeaders, count) || (soak && Chance(0.5))) && world_.stand_still();
  FailPerhaps(true, false);
  auto done = call();
  world_.wrote(late);
  if (Strikes(Fault::kUnread, count)) throw ApiError(0, "Timeout", "injected: the answer is lost");
  if (Strikes(Fault::kCrashAfter, count) || (soak && Chance(1))) throw Killed();
  FailPerhaps(true, true);
  return done;
}

void FaultyApi::Read() {
  const int count = ++state_.reads;
  if (Strikes(Fault::kStaleLists, count) || (state_.armed && state_.plan.fault == Fault::kSoak && Chance(0.3))) {
    const uint64_t now = world_.version();
    state_.stale_since = now > 4 ? now - 4 : 0;
    state_.stale_until = world_.now() + seconds(20);
  }
  FailPerhaps(false, false);
}

Json FaultyApi::Get(const kube::Resource& resource, const std::string& ns, const std::string& name) {
  Read();
  if (Strikes(Fault::kStaleRead, state_.reads)) {
    for (const Json& object : world_.past(resource, static_cast<uint64_t>(state_.plan.arg))) {
      if (object["metadata"]["name"] == name && object["metadata"].value("namespace", "") == ns) return object;
    }
    throw ApiError(404, "NotFound", resource.plural + " \"" + name + "\" not found");
  }
  return server_.Get(resource, ns, name);
}

kube::ListResult FaultyApi::List(const kube::Resource& resource, const std::string& ns,
                                 const kube::ListOptions& options) {
  Read();
  uint64_t back = 0;
  if (Strikes(Fault::kStaleRead, state_.reads)) back = static_cast<uint64_t>(state_.plan.arg);
  if (world_.now() < state_.stale_until) back = world_.version() - state_.stale_since;
  // What a watch begins from is a page of its own: there the version has to fit.
  if (back == 0 || options.limit > 0) return server_.List(resource, ns, options);
  kube::ListResult result;
  result.resource_version = std::to_string(world_.version() - back);
  for (const Json& object : world_.past(resource, back)) {
    if ((ns.empty() || object["metadata"].value("namespace", "") == ns) &&
        local::MatchesSelector(object["metadata"].value("labels", Json::object()), options.label_selector))
      result.items.push_back(object);
  }
  return result;
}

std::unique_ptr<kube::Watch> FaultyApi::StartWatch(const kube::Resource& resource, const std::string& ns,
                                                   const kube::ListOptions& options) {
  FailPerhaps(false, false);
  return std::make_unique<FaultyWatch>(server_.StartWatch(resource, ns, options), state_, world_.now);
}

Json FaultyApi::Create(const kube::Resource& resource, const std::string& ns, const Json& object) {
  return Write([&] { return server_.Create(resource, ns, object); });
}

Json FaultyApi::MergePatch(const kube::Resource& resource, const std::string& ns, const std::string& name,
                           const Json& patch) {
  return Write([&] { return server_.MergePatch(resource, ns, name, patch); });
}

Json FaultyApi::MergePatchStatus(const kube::Resource& resource, const std::string& ns, const std::string& name,
                                 const Json& patch) {
  Json sent = patch;
  if (state_.mutation == "blind-status") sent.erase("metadata");  // no resourceVersion: the last writer wins
  return Write([&] { return server_.MergePatchStatus(resource, ns, name, sent); });
}

void FaultyApi::Delete(const kube::Resource& resource, const std::string& ns, const std::string& name,
                       const kube::Preconditions& preconditions, std::optional<int64_t> grace_period_seconds) {
  kube::Preconditions sent = preconditions;
  if (state_.mutation == "delete-by-name") sent = {};
  Write([&] {
    server_.Delete(resource, ns, name, sent, grace_period_seconds);
    return 0;
  });
}

}  // namespace anneal::fault
