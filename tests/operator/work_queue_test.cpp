#include "operator/kube/work_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

TEST(WorkQueue, EachKeyOnceAndAgainWhenAddedWhileWorkedOn) {
  WorkQueue queue;
  queue.Add({"n", "a"});
  queue.Add({"n", "a"});
  queue.Add({"n", "b"});
  EXPECT_EQ(queue.Get()->name, "a");
  queue.Add({"n", "a"});
  EXPECT_EQ(queue.Get()->name, "b");  // not "a": it is being worked on
  queue.Done({"n", "a"});
  EXPECT_EQ(queue.Get()->name, "a");
}

TEST(WorkQueue, AKeyTakenOutOfTurnKeepsItsTurn) {
  WorkQueue queue;
  const Key a{"ns", "a"}, b{"ns", "b"};
  EXPECT_TRUE(queue.Take(a));
  EXPECT_FALSE(queue.Take(a));
  queue.Done(a);
  queue.Add(b);
  EXPECT_TRUE(queue.Take(b));
  EXPECT_EQ(queue.state().depth, 0u);
  queue.Done(b);
  EXPECT_EQ(queue.state().depth, 1u);
  EXPECT_EQ(queue.Get(), b);
  queue.Done(b);
  EXPECT_EQ(queue.state().depth, 0u);
}

TEST(WorkQueue, DelayedKeysComeInTheirTime) {
  WorkQueue queue;
  queue.AddAfter({"n", "late"}, milliseconds(60));
  queue.AddAfter({"n", "soon"}, milliseconds(20));
  EXPECT_EQ(queue.Get()->name, "soon");
  EXPECT_EQ(queue.Get()->name, "late");
}

TEST(WorkQueue, BackOffGrowsUntilForgotten) {
  WorkQueue queue;
  const Key key{"n", "a"};
  std::vector<double> waits;
  for (int i = 0; i < 5; ++i) {
    const auto began = std::chrono::steady_clock::now();
    queue.AddRateLimited(key);
    queue.Get();
    waits.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
    queue.Done(key);
  }
  EXPECT_GE(waits[0], 4);
  EXPECT_GE(waits[4], 79);  // 5 ms x 2^4
  queue.Forget(key);
  queue.AddRateLimited(key);
  EXPECT_TRUE(queue.Get());
}

TEST(WorkQueue, ShutDownWakesTheWaiting) {
  WorkQueue queue;
  std::thread waiter([&] { EXPECT_FALSE(queue.Get()); });
  queue.ShutDown();
  waiter.join();
}

TEST(WorkQueuePriority, FreshKeysOvertakeThoseOfAFirstList) {
  WorkQueue queue;
  queue.Add({"ns", "old1"}, WorkQueue::Priority::kInitial);
  queue.Add({"ns", "old2"}, WorkQueue::Priority::kInitial);
  queue.Add({"ns", "new"});
  queue.Add({"ns", "old2"});
  EXPECT_EQ(queue.Get()->name, "new");
  EXPECT_EQ(queue.Get()->name, "old2");
  EXPECT_EQ(queue.Get()->name, "old1");
  EXPECT_EQ(queue.state().depth, 0u);
}

TEST(WorkQueueState, CountsAsGoOperatorsDo) {
  WorkQueue queue;
  queue.Add({"ns", "a"});
  queue.Add({"ns", "a"});  // waits already
  queue.Add({"ns", "b"});
  std::this_thread::sleep_for(milliseconds(5));
  std::chrono::duration<double> waited{};
  queue.Get(&waited);
  EXPECT_GE(waited.count(), 0.005);
  queue.AddRateLimited({"ns", "a"});
  std::this_thread::sleep_for(milliseconds(20));
  const WorkQueue::State state = queue.state();
  EXPECT_EQ(state.adds, 2u);
  EXPECT_EQ(state.retries, 1u);
  EXPECT_EQ(state.depth, 1u);
  EXPECT_EQ(state.active, 1u);
  EXPECT_GE(state.longest, 0.02);
  EXPECT_EQ(state.unfinished, state.longest);
  queue.Done({"ns", "a"});
  EXPECT_EQ(queue.state().active, 0u);
  EXPECT_EQ(queue.state().longest, 0);
}

TEST(WorkQueuePriority, AKeyHasOneTimer) {
  WorkQueue queue;
  for (int i = 0; i < 5; ++i) queue.AddAfter({"ns", "a"}, milliseconds(20));
  for (const char* name : {"a", "end"}) {
    if (std::string(name) == "end") queue.AddAfter({"ns", "end"}, milliseconds(30));
    const auto key = queue.Get();
    EXPECT_EQ(key->name, name);
    queue.Done(*key);
  }
}

}  // namespace
}  // namespace anneal::kube
