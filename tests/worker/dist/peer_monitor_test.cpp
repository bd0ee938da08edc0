// Ranks as monitors of one process over one store: what they agree on when a collective fails.
#include "worker/dist/peer_monitor.h"

#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

namespace anneal::dist {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Ranks : public testing::Test {
 protected:
  void Join(int ranks) {
    known_.resize(ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      monitors_.push_back(std::make_unique<PeerMonitor>(store_, rank, ranks, [this, rank](const Verdict& verdict) {
        const std::lock_guard lock(mutex_);
        known_[rank] = verdict.text;
      }));
    }
  }

  c10::intrusive_ptr<c10d::Store> store_ = c10::make_intrusive<c10d::HashStore>();
  std::mutex mutex_;
  std::vector<std::string> known_;
  std::vector<std::unique_ptr<PeerMonitor>> monitors_;
};

TEST_F(Ranks, AgreeOnTheOneThatLags) {
  Join(3);
  for (int rank : {0, 2}) monitors_[rank]->Enter(8, "all-reduce", 4);
  monitors_[1]->Enter(7, "all-to-all", 3);
  monitors_[1]->Leave();
  Verdict other;
  std::thread second([&] { other = monitors_[2]->Judge(); });
  const Verdict verdict = monitors_[0]->Judge();
  second.join();
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_EQ(verdict.text,
            "rank 1 lags: it runs but is past all-to-all (collective 7) of step 3 while rank 0 is inside all-reduce "
            "(collective 8) of step 4");
  EXPECT_EQ(other.rank, 1);
  EXPECT_EQ(other.text, verdict.text);
  // The one that lags learns it too, within a beat or two.
  for (int i = 0; i < 100; ++i) {
    {
      const std::lock_guard lock(mutex_);
      if (!known_[1].empty()) break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(known_[1], verdict.text);
}

TEST_F(Ranks, ARankThatLeftInGoodOrderIsNamed) {
  Join(2);
  monitors_[0]->Enter(5, "barrier", 2);
  monitors_[1].reset();
  EXPECT_EQ(monitors_[0]->Judge().text, "rank 1 has ended already");
}

TEST_F(Ranks, ARankWithAnErrorOfItsOwnIsNamed) {
  Join(2);
  monitors_[0]->Enter(5, "barrier", 2);
  try {
    const std::unique_ptr<PeerMonitor> leaving = std::move(monitors_[1]);
    throw std::runtime_error("a broken file");
  } catch (const std::runtime_error&) {
  }
  const Verdict verdict = monitors_[0]->Judge();
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_THAT(verdict.text, StartsWith("rank 1 ended with an error of its own"));
}

TEST(PeerMonitorDeathTest, AProcessThatHangsIsEnded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        auto store = c10::make_intrusive<c10d::HashStore>();
        PeerMonitor me(
            store, 0, 1, [](const Verdict&) {}, std::chrono::seconds(0));
        me.Enter(1, "all-reduce", 0);
        me.Judge();
        std::this_thread::sleep_for(std::chrono::seconds(60));
      },
      testing::ExitedWithCode(76), "");
}

}  // namespace
}  // namespace anneal::dist
