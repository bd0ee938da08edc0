#include "operator/kube/leader_election.h"

#include <gtest/gtest.h>

#include <thread>

#include "operator/local/memory_api.h"

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

/// Electors of one lease in namespace "ns", as the options say when each is made.
class LeaderElection : public testing::Test {
 protected:
  LeaderElection() { options_.ns = "ns"; }
  LeaderElector Elector(const char* identity) {
    options_.identity = identity;
    return LeaderElector(api_, clock_, options_);
  }

  const Clock clock_;
  local::MemoryApi api_{{}, clock_};
  LeaderOptions options_;
};

TEST_F(LeaderElection, OneLeadsAndReleaseHandsOverAtOnce) {
  LeaderElector a = Elector("a"), b = Elector("b");
  EXPECT_TRUE(a.Try());
  EXPECT_FALSE(b.Try());
  EXPECT_TRUE(a.Try());
  a.Release();
  EXPECT_TRUE(b.Try());
  EXPECT_FALSE(a.Try());
  EXPECT_EQ(api_.Get(resources::kLease, "ns", "anneal-operator")["spec"]["leaseTransitions"], 1);
}

TEST_F(LeaderElection, ADeadLeadersLeaseIsTakenAfterItsTimeAndTheOldOneNotices) {
  options_.lease = milliseconds(100);
  options_.retry = milliseconds(10);
  LeaderElector a = Elector("a"), b = Elector("b");
  EXPECT_TRUE(a.Try());
  EXPECT_FALSE(b.Try());
  std::this_thread::sleep_for(milliseconds(150));
  EXPECT_TRUE(b.Try());
  const std::atomic<bool> stop{false};
  options_.lease = milliseconds(15'000);
  EXPECT_FALSE(a.Hold(stop));
}

TEST_F(LeaderElection, ALeaderIsSureOnlyUntilTheRenewDeadline) {
  LeaderElector a = Elector("a");
  EXPECT_FALSE(a.LeadsSurely());
  EXPECT_TRUE(a.Try());
  EXPECT_TRUE(a.LeadsSurely());
  a.Release();
  EXPECT_FALSE(a.LeadsSurely());
  options_.renew_deadline = milliseconds(1);
  LeaderElector b = Elector("a");
  EXPECT_TRUE(b.Try());
  std::this_thread::sleep_for(milliseconds(5));  // stopped for longer
  EXPECT_FALSE(b.LeadsSurely());
}

TEST_F(LeaderElection, NobodysClockIsBelieved) {
  for (const char* renewed : {"2000-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z", "yesterday"}) {
    local::MemoryApi api({}, clock_);
    api.Create(resources::kLease, "ns",
               {{"metadata", {{"name", "anneal-operator"}, {"namespace", "ns"}}},
                {"spec", {{"holderIdentity", "other"}, {"leaseDurationSeconds", 1}, {"renewTime", renewed}}}});
    LeaderOptions options = options_;
    options.identity = "me";
    options.lease = milliseconds(15'000);
    EXPECT_FALSE(LeaderElector(api, clock_, options).Try()) << renewed;  // seen only now: its time begins now
    options.lease = milliseconds(500);
    LeaderElector patient(api, clock_, options);
    EXPECT_FALSE(patient.Try()) << renewed;
    std::this_thread::sleep_for(milliseconds(510));
    EXPECT_TRUE(patient.Try()) << renewed;  // unchanged for so long by our own clock
  }
}

}  // namespace
}  // namespace anneal::kube
