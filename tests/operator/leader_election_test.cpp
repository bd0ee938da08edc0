#include "operator/kube/leader_election.h"

#include <gtest/gtest.h>

#include <thread>

#include "operator/local/memory_api.h"

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

TEST(LeaderElection, OneLeadsAndReleaseHandsOverAtOnce) {
  const Clock clock;
  local::MemoryApi api({}, clock);
  LeaderOptions options;
  options.ns = "ns";
  options.identity = "a";
  LeaderElector a(api, clock, options);
  options.identity = "b";
  LeaderElector b(api, clock, options);
  EXPECT_TRUE(a.Try());
  EXPECT_FALSE(b.Try());
  EXPECT_TRUE(a.Try());
  a.Release();
  EXPECT_TRUE(b.Try());
  EXPECT_FALSE(a.Try());
  EXPECT_EQ(api.Get(resources::kLease, "ns", "anneal-operator")["spec"]["leaseTransitions"], 1);
}

TEST(LeaderElection, ADeadLeadersLeaseIsTakenAfterItsTimeAndTheOldOneNotices) {
  const Clock clock;
  local::MemoryApi api({}, clock);
  LeaderOptions options;
  options.ns = "ns";
  options.lease = milliseconds(100);
  options.retry = milliseconds(10);
  options.identity = "a";
  LeaderElector a(api, clock, options);
  options.identity = "b";
  LeaderElector b(api, clock, options);
  EXPECT_TRUE(a.Try());
  EXPECT_FALSE(b.Try());
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_TRUE(b.Try());
  const std::atomic<bool> stop{false};
  options.lease = milliseconds(15'000);
  EXPECT_FALSE(a.Hold(stop));
}

TEST(LeaderElection, ALeaderIsSureOnlyUntilTheRenewDeadline) {
  const Clock clock;
  local::MemoryApi api({}, clock);
  LeaderOptions options;
  options.ns = "ns";
  options.identity = "a";
  LeaderElector a(api, clock, options);
  EXPECT_FALSE(a.LeadsSurely());
  EXPECT_TRUE(a.Try());
  EXPECT_TRUE(a.LeadsSurely());
  a.Release();
  EXPECT_FALSE(a.LeadsSurely());
  options.renew_deadline = milliseconds(1);
  LeaderElector b(api, clock, options);
  EXPECT_TRUE(b.Try());
  std::this_thread::sleep_for(milliseconds(5));  // stopped for longer
  EXPECT_FALSE(b.LeadsSurely());
}

TEST(LeaderElection, NobodysClockIsBelieved) {
  const Clock clock;
  for (const char* renewed : {"2000-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z", "yesterday"}) {
    local::MemoryApi api({}, clock);
    api.Create(resources::kLease, "ns",
               {{"metadata", {{"name", "anneal-operator"}, {"namespace", "ns"}}},
                {"spec", {{"holderIdentity", "other"}, {"leaseDurationSeconds", 1}, {"renewTime", renewed}}}});
    LeaderOptions options;
    options.ns = "ns";
    options.identity = "me";
    options.lease = milliseconds(15'000);
    EXPECT_FALSE(LeaderElector(api, clock, options).Try()) << renewed;  // seen only now: its time begins now
    options.lease = milliseconds(500);
    LeaderElector patient(api, clock, options);
    EXPECT_FALSE(patient.Try()) << renewed;
    std::this_thread::sleep_for(milliseconds(510));
    EXPECT_TRUE(patient.Try()) << renewed;  // unchanged for so long by our own clock
  }
}

}  // namespace
}  // namespace anneal::kube
