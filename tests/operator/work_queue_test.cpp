#include "operator/kube/work_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace anneal::kube {
namespace {

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
  queue.AddAfter({"n", "late"}, std::chrono::milliseconds(60));
  queue.AddAfter({"n", "soon"}, std::chrono::milliseconds(20));
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

}  // namespace
}  // namespace anneal::kube
