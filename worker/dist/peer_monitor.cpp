#include "worker/dist/peer_monitor.h"

#include <unistd.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "worker/config/error.h"

namespace anneal::dist {
namespace {

using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr auto kBeat = 500ms;
constexpr int kBeatsOfSilence = 4;  // so long a pulse has to stand still
constexpr auto kAnswer = 8s;        // the longest a verdict may take, 4 beats included
constexpr auto kLinger = 5s;        // rank 0 keeps the store for the others
constexpr auto kParting = 2s;       // for the last messages of a rank that leaves

std::vector<uint8_t> Bytes(const std::string& text) { return {text.begin(), text.end()}; }
std::string Text(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }
std::string PulseKey(int rank) { return "pulse/" + std::to_string(rank); }
std::string InformedKey(int rank) { return "informed/" + std::to_string(rank); }

}  // namespace

struct PeerMonitor::State {
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0, world_size = 1;
  std::function<void(const Verdict&)> on_verdict;
  std::chrono::seconds grace{};

  std::mutex mutex;
  std::condition_variable changed;
  Pulse pulse;           // of this rank
  bool asked = false;    // Judge waits for a verdict
  bool leaving = false;  // the destructor waits for the thread
  bool failed = false;   // ... and this rank has an error of its own
  bool gone = false;     // the thread has ended
  bool silent = false;   // the store has not answered in time
  std::optional<Verdict> verdict;

  // The rest is the thread's own; each may throw when the store does not answer.
  void PostPulse(bool finished) {
    Pulse now;
    {
      const std::lock_guard lock(mutex);
      ++pulse.beat;
      pulse.finished = finished;
      now = pulse;
    }
    store->set(PulseKey(rank), Bytes(PulseToJson(now).dump()));
  }

  std::vector<Pulse> ReadPulses() {
    std::vector<std::string> keys;
    for (int r = 0; r < world_size; ++r) keys.push_back(PulseKey(r));
    std::vector<Pulse> pulses;
    for (const auto& bytes : store->multiGet(keys)) pulses.push_back(PulseFromJson(Text(bytes)));
    return pulses;
  }

  void Announce(const Verdict& mine) {
    const std::string text = nlohmann::json{{"rank", mine.rank}, {"text", mine.text}}.dump();
    store->compareSet("verdict", Bytes(""), Bytes(text));
  }

  std::optional<Verdict> ReadVerdict() {
    if (!store->check({"verdict"})) return std::nullopt;
    const auto json = nlohmann::json::parse(Text(store->get("verdict")), nullptr, false);
    if (!json.is_object()) return Verdict{-1, "the verdict in the store is not readable"};
    return Verdict{json.value("rank", -1), json.value("text", "")};
  }

  void Learn(const Verdict& known) {
    {
      const std::lock_guard lock(mutex);
      verdict = known;
    }
    changed.notify_all();
    on_verdict(known);
  }

  void WaitUntilInformed(int blamed) {
    const auto end = Steady::now() + kLinger;
    for (int r = 0; r < world_size; ++r) {
      while (r != rank && r != blamed && Steady::now() < end && !store->check({InformedKey(r)})) {
        std::this_thread::sleep_for(50ms);
      }
    }
  }
};

PeerMonitor::PeerMonitor(c10::intrusive_ptr<c10d::Store> store, int rank, int world_size,
                         std::function<void(const Verdict&)> on_verdict, std::chrono::seconds grace)
    : state_(std::make_shared<State>()) {
  state_->store = std::move(store);
  state_->rank = rank;
  state_->world_size = world_size;
  state_->on_verdict = std::move(on_verdict);
  state_->grace = grace;
  state_->PostPulse(false);
  std::thread([state = state_] { Watch(state); }).detach();
}

PeerMonitor::~PeerMonitor() {
  std::unique_lock lock(state_->mutex);
  state_->leaving = true;
  state_->failed = std::uncaught_exceptions() > 0;
  state_->changed.notify_all();
  if (state_->silent) return;
  // Rank 0 lingers for the others; the others only post their last pulse.
  const auto most = state_->rank == 0 ? kLinger + kParting : kParting;
  state_->changed.wait_for(lock, most, [this] { return state_->gone; });
}

void PeerMonitor::Enter(int64_t sequence, const char* operation, int64_t step) {
  const std::lock_guard lock(state_->mutex);
  Pulse& pulse = state_->pulse;
  pulse.sequence = sequence;
  pulse.operation = operation;
  pulse.step = step;
  pulse.inside = true;
}

void PeerMonitor::Leave() {
  const std::lock_guard lock(state_->mutex);
  state_->pulse.inside = false;
}

Verdict PeerMonitor::Judge() {
  std::unique_lock lock(state_->mutex);
  state_->asked = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, kAnswer, [this] { return state_->verdict || state_->gone; });
  if (state_->verdict) return *state_->verdict;
  state_->silent = true;
  lock.unlock();
  const Verdict verdict = state_->rank == 0 ? Verdict{-1, "this rank's own store does not answer"}
                                            : Verdict{0, "rank 0 does not answer (killed, stopped or unreachable)"};
  state_->on_verdict(verdict);
  return verdict;
}

void PeerMonitor::Watch(const std::shared_ptr<State>& state) {
  State& s = *state;
  auto wait = [&s](auto time) {
    std::unique_lock lock(s.mutex);
    s.changed.wait_for(lock, time, [&s] { return s.leaving || (s.asked && !s.verdict); });
  };
  auto flag = [&s](bool State::*member) {
    const std::lock_guard lock(s.mutex);
    return s.*member;
  };
  try {
    std::optional<Steady::time_point> end_by;
    while (!flag(&State::leaving)) {
      s.PostPulse(false);
      if (!end_by) {
        auto known = s.ReadVerdict();
        if (!known && flag(&State::asked)) {
          const auto before = s.ReadPulses();
          for (int i = 0; i < kBeatsOfSilence && !(known = s.ReadVerdict()); ++i) {
            std::this_thread::sleep_for(kBeat);
            s.PostPulse(false);
          }
          if (!known) {
            s.Announce(Diagnose(s.rank, before, s.ReadPulses()));
            known = s.ReadVerdict();
          }
        }
        if (known) {
          s.store->set(InformedKey(s.rank), Bytes("1"));
          s.Learn(*known);
          end_by = Steady::now() + s.grace;
        }
      } else if (Steady::now() > *end_by) {
        ::_exit(static_cast<int>(ExitCode::kPeer));
      }
      wait(kBeat);
    }
    std::optional<Verdict> verdict = s.verdict;
    if (flag(&State::failed) && !verdict) {
      s.Announce({s.rank, "rank " + std::to_string(s.rank) + " ended with an error of its own (see its log)"});
      verdict = s.ReadVerdict();
      s.store->set(InformedKey(s.rank), Bytes("1"));
    }
    s.PostPulse(/*finished=*/true);
    if (s.rank == 0 && verdict) s.WaitUntilInformed(verdict->rank);
  } catch (const std::exception&) {
    // The store is gone with rank 0. That matters only when a collective fails, which Judge then says.
  }
  {
    const std::lock_guard lock(s.mutex);
    s.gone = true;
  }
  s.changed.notify_all();
}

}  // namespace anneal::dist
