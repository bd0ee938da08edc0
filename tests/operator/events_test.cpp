// What is told, how often, and that telling holds nobody up.
#include "operator/controllers/policies/events.h"

#include "operator/kube/event_recorder.h"
#include "operator/local/manifests.h"
#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

using kube::EventCorrelator;
using kube::EventFact;
using std::chrono::seconds;

const Json kJob = {{"apiVersion", "anneal.dev/v1alpha1"},
                   {"kind", "TrainJob"},
                   {"metadata", {{"name", "job"}, {"namespace", "ns"}, {"uid", "u1"}}}};
const auto kNow = std::chrono::system_clock::from_time_t(1'800'000'000);

TEST(EventCorrelator, EqualEventsAreOneWithACount) {
  EventCorrelator correlator("me");
  const auto first = correlator.Take(kJob, {true, "Unschedulable", "no node"}, kNow);
  ASSERT_TRUE(first && first->create);
  EXPECT_EQ(first->body["involvedObject"]["uid"], "u1");
  EXPECT_EQ(first->body["type"], "Warning");
  EXPECT_EQ(first->body["reportingInstance"], "me");
  const auto second = correlator.Take(kJob, {true, "Unschedulable", "no node"}, kNow + seconds(5));
  ASSERT_TRUE(second && !second->create);
  EXPECT_EQ(second->name, first->name);
  EXPECT_EQ(second->body["count"], 2);
  EXPECT_EQ(second->body["lastTimestamp"], "2027-01-15T08:00:05Z");
  // The server forgets Events after an hour: then it is a new one.
  correlator.Forget("ns", first->name);
  EXPECT_TRUE(correlator.Take(kJob, {true, "Unschedulable", "no node"}, kNow + seconds(9))->create);
}

TEST(EventCorrelator, ManySimilarOnesAreCombined) {
  EventCorrelator correlator("me");
  int created = 0;
  std::optional<EventCorrelator::Verdict> last;
  for (int i = 0; i < 20; ++i) {
    last = correlator.Take(kJob, {true, "Restarting", "attempt " + std::to_string(i)}, kNow + seconds(i));
    ASSERT_TRUE(last);
    created += last->create;
  }
  EXPECT_EQ(created, 11);  // ten of their own, one for the rest
  EXPECT_EQ(last->body["message"], "(combined from similar events): attempt 19");
  EXPECT_EQ(last->body["count"], 10);
}

TEST(EventCorrelator, AnObjectThatSaysTooMuchIsNotHeardForAWhileOthersAre) {
  EventCorrelator correlator("me");
  int heard = 0;
  for (int i = 0; i < 100; ++i) heard += correlator.Take(kJob, {false, "R" + std::to_string(i), "m"}, kNow).has_value();
  EXPECT_EQ(heard, 25);
  Json other = kJob;
  other["metadata"]["uid"] = "u2";
  EXPECT_TRUE(correlator.Take(other, {false, "R", "m"}, kNow));
  EXPECT_FALSE(correlator.Take(kJob, {false, "R", "m"}, kNow + seconds(299)));
  EXPECT_TRUE(correlator.Take(kJob, {false, "R", "m"}, kNow + seconds(301)));
}

TEST(EventCorrelator, LongMessagesAreCut) {
  EventCorrelator correlator("me");
  EXPECT_EQ(
      correlator.Take(kJob, {false, "R", std::string(5000, 'x')}, kNow)->body["message"].get<std::string>().size(),
      1024u);
}

TEST(EventRecorder, ASilentServerHoldsNobodyUpAndTheQueueIsBounded) {
  FakeClock clock;
  local::MemoryApi api({"", nullptr}, clock);
  api.SetFault([](const std::string& verb, const kube::Resource&) {
    if (verb == "create") throw kube::ApiError(0, "Timeout", "silent");
  });
  const auto began = std::chrono::steady_clock::now();
  {
    kube::EventRecorder recorder(api, clock, "me");
    for (int i = 0; i < 5000; ++i) recorder.Record(kJob, {false, "R", "m"});
    EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(60));  // 5000 timeouts would be hours
  }
  EXPECT_TRUE(api.List(resources::kEvent, "", {}).items.empty());
}

TEST(EventRecorder, SendsAndSurvivesAForgetfulServer) {
  FakeClock clock;
  local::MemoryApi api({"", nullptr}, clock);
  kube::EventRecorder recorder(api, clock, "me");
  const auto events = [&] { return api.List(resources::kEvent, "", {}).items; };
  const auto until = [&](const std::function<bool()>& holds) {
    for (int i = 0; i < 500 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return holds();
  };
  recorder.Record(kJob, {false, "Running", "m"});
  ASSERT_TRUE(until([&] { return events().size() == 1; }));
  recorder.Record(kJob, {false, "Running", "m"});
  ASSERT_TRUE(until([&] { return events()[0]["count"] == 2; }));
  api.Delete(resources::kEvent, "ns", events()[0]["metadata"]["name"], {}, std::nullopt);
  recorder.Record(kJob, {false, "Running", "m"});
  EXPECT_TRUE(until([&] { return events().size() == 1 && events()[0]["count"] == 1; }));
}

/// The reasons told in a life of the example job; "!" before warnings.
class Told : public testing::Test {
 protected:
  /// Follows the job while `act` is done and comes to rest.
  void Watch(const std::function<void()>& act) {
    const auto status = [&] {
      return kube::Find(cluster.api, resources::kTrainJob, "default", "movielens")
          .value_or(Json::object())
          .value("status", Json::object());
    };
    const Json before = status();
    act();
    for (const EventFact& event : controllers::EventsOf(before, status()))
      told.push_back((event.warning ? "!" : "") + event.reason);
  }
  FakeCluster cluster;
  std::vector<std::string> told;
};

TEST_F(Told, ALife) {
  Watch([&] {
    for (const char* file : {"configmap.yaml", "trainjob.yaml"}) {
      for (const auto& m : local::LoadManifests(std::string(ANNEAL_SOURCE_DIR) + "/examples/movielens/" + file))
        local::Apply(cluster.api, m);
    }
    cluster.Settle();
  });
  Watch([&] { cluster.Advance(100); });  // nothing new
  Watch([&] {
    cluster.End("movielens-r1-a1-w0", 1);
    cluster.Settle();
  });
  Watch([&] { cluster.Advance(5); });
  Watch([&] {
    cluster.End("movielens-r1-a2-w0", 64, R"({"message":"train_config is missing"})");
    cluster.Settle();
  });
  EXPECT_EQ(told, (std::vector<std::string>{"RunStarted", "RunInProgress", "!WorkerFailed", "RunInProgress",
                                            "!ConfigInvalid"}));
}

}  // namespace
}  // namespace anneal::tests
