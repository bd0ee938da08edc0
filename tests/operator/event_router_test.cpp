#include "operator/kube/event_router.h"

#include <gtest/gtest.h>

namespace anneal::kube {
namespace {

Json Object(const std::string& name, const std::string& version) {
  return {{"metadata", {{"name", name}, {"namespace", "ns"}, {"resourceVersion", version}}}};
}

/// EvalJobs that refer to the TrainJob their spec names.
class Follower : public Reconciler {
 public:
  const Resource& resource() const override { return resources::kEvalJob; }
  std::vector<Resource> owns() const override { return {resources::kPod}; }
  std::vector<Resource> refers_to() const override { return {resources::kTrainJob}; }
  std::vector<Reference> References(const Json& job) const override {
    return {{resources::kTrainJob, job["spec"]["source"].get<std::string>()}};
  }
  ReconcileResult Reconcile(const Key&) override { return {}; }
};

class Router : public testing::Test {
 protected:
  using Wakes = std::vector<EventRouter::Wake>;
  static Json Job(const std::string& name, const Json& source = nullptr) {
    Json job = Object(name, "1");
    if (!source.is_null()) job["spec"]["source"] = source;
    return job;
  }
  size_t SourceOf(const Resource& resource) {
    for (size_t i = 0; i < router.sources().size(); ++i) {
      if (router.sources()[i].resource == resource) return i;
    }
    return 99;
  }
  Wakes Changed(const Resource& resource, const Json& object) {
    const size_t source = SourceOf(resource);
    return router.Changed(source, router.Read(source, object));
  }

  Follower follower;
  EventRouter router{{&follower}};
};

TEST_F(Router, AnEventWakesThoseThatReferToTheObjectAndNoOthers) {
  EXPECT_EQ(Changed(resources::kTrainJob, Job("t")), Wakes{});
  EXPECT_EQ(Changed(resources::kEvalJob, Job("a", "t")), (Wakes{{0, {"ns", "a"}}}));
  Changed(resources::kEvalJob, Job("b", "t"));
  Changed(resources::kEvalJob, Job("c", "other"));
  EXPECT_EQ(Changed(resources::kTrainJob, Job("t")), (Wakes{{0, {"ns", "a"}}, {0, {"ns", "b"}}}));
  Changed(resources::kEvalJob, Job("a", "other"));  // refers to another one now
  EXPECT_EQ(Changed(resources::kTrainJob, Job("t")), (Wakes{{0, {"ns", "b"}}}));
  const size_t jobs = SourceOf(resources::kEvalJob);
  router.Gone(jobs, router.Read(jobs, Job("b", "t")));
  EXPECT_EQ(Changed(resources::kTrainJob, Job("t")), Wakes{});
  EXPECT_EQ(router.size(), 3u);  // t, a, c
}

// Another kind's job of the same name that follows the same source keeps following it.
TEST_F(Router, JobsOfTwoKindsMayHaveOneName) {
  class ExportFollower : public Follower {
   public:
    const Resource& resource() const override { return resources::kExportJob; }
  } exporter;
  EventRouter router({&follower, &exporter});
  const auto changed = [&](const Resource& resource, const Json& object) {
    for (size_t source = 0; source < router.sources().size(); ++source) {
      if (router.sources()[source].resource == resource) return router.Changed(source, router.Read(source, object));
    }
    return Wakes{};
  };
  changed(resources::kEvalJob, Job("m", "t"));
  changed(resources::kExportJob, Job("m", "t"));
  changed(resources::kEvalJob, Job("m", "t"));
  EXPECT_EQ(changed(resources::kTrainJob, Job("t")), (Wakes{{0, {"ns", "m"}}, {1, {"ns", "m"}}}));
  changed(resources::kEvalJob, Job("m", "other"));
  EXPECT_EQ(changed(resources::kTrainJob, Job("t")), (Wakes{{1, {"ns", "m"}}}));
}

TEST_F(Router, AListThatTakesThePlaceOfWhatWasKnownWakesTheOwnersOfWhatIsGone) {
  Json pod = Object("p", "1");
  pod["metadata"]["ownerReferences"] = {
      {{"controller", true}, {"kind", "EvalJob"}, {"apiVersion", "anneal.dev/v1alpha1"}, {"name", "a"}}};
  EXPECT_EQ(Changed(resources::kPod, pod), (Wakes{{0, {"ns", "a"}}}));
  const size_t pods = SourceOf(resources::kPod);
  EXPECT_EQ(router.Replaced(pods, "elsewhere", {}), Wakes{});  // another namespace's list says nothing of it
  EXPECT_EQ(router.Replaced(pods, "", {}), (Wakes{{0, {"ns", "a"}}}));
  EXPECT_EQ(router.size(), 0u);
}

TEST_F(Router, JobsAreCountedByPhase) {
  Json job = Job("a", "t");
  Changed(resources::kEvalJob, job);
  Changed(resources::kEvalJob, Job("b", "t"));
  EXPECT_EQ(router.Phases(0), (std::map<std::string, size_t>{{"", 2}}));
  job["status"]["phase"] = "Running";
  Changed(resources::kEvalJob, job);
  EXPECT_EQ(router.Phases(0), (std::map<std::string, size_t>{{"", 1}, {"Running", 1}}));
  router.Gone(SourceOf(resources::kEvalJob), router.Read(SourceOf(resources::kEvalJob), job));
  EXPECT_EQ(router.Phases(0), (std::map<std::string, size_t>{{"", 1}}));
}

TEST_F(Router, ANameThatPassesToAnotherOwnerUnseenIsTakenFromTheFirst) {
  ChildCache children;
  EventRouter router({&follower}, &children);
  const auto pod = [](const std::string& owner, const std::string& uid) {
    Json pod = Object("p", uid);
    pod["metadata"]["uid"] = uid;
    pod["metadata"]["ownerReferences"] = {{{"controller", true},
                                           {"kind", "EvalJob"},
                                           {"apiVersion", "anneal.dev/v1alpha1"},
                                           {"name", owner},
                                           {"uid", owner}}};
    return pod;
  };
  const size_t pods = SourceOf(resources::kPod);
  const Clock::Time now{};
  router.Changed(pods, router.Read(pods, pod("a", "1")));
  // The watch was down: neither the end of the first nor the beginning of the second was told by itself.
  EXPECT_EQ(router.Replaced(pods, "", {router.Read(pods, pod("b", "2"))}), (Wakes{{0, {"ns", "b"}}, {0, {"ns", "a"}}}));
  EXPECT_TRUE(children.Of("a", now).known.empty());
  EXPECT_EQ(children.Of("b", now).known.size(), 1u);
  EXPECT_EQ(router.Changed(pods, router.Read(pods, pod("a", "3"))), (Wakes{{0, {"ns", "a"}}, {0, {"ns", "b"}}}));
  EXPECT_TRUE(children.Of("b", now).known.empty());
  router.Gone(pods, router.Read(pods, pod("a", "3")));
  EXPECT_TRUE(children.Of("a", now).known.empty());
}

TEST_F(Router, AReconcilersOwnWriteWakesOnlyThoseWhoReferToIt) {
  OwnWrites own;
  EventRouter router({&follower}, nullptr, &own);
  const size_t jobs = SourceOf(resources::kEvalJob);
  const auto changed = [&](const std::string& version) {
    Json job = Job("a", "t");
    job["metadata"]["resourceVersion"] = version;
    return router.Changed(jobs, router.Read(jobs, job));
  };
  const Wakes itself = {{0, {"ns", "a"}}};
  EXPECT_EQ(changed("1"), itself);
  own.Wrote(resources::kEvalJob, {"ns", "a"}, "3");
  EXPECT_EQ(changed("2"), itself);  // somebody else's, before
  EXPECT_EQ(changed("3"), Wakes{});
  EXPECT_EQ(changed("3"), itself);  // told twice
  EXPECT_EQ(changed("4"), itself);
  own.Wrote(resources::kEvalJob, {"ns", "a"}, "5");
  own.Wrote(resources::kTrainJob, {"ns", "a"}, "6");  // another kind's
  EXPECT_EQ(changed("6"), itself);
  own.Forget(resources::kEvalJob, {"ns", "a"});
  EXPECT_EQ(changed("5"), itself);

  // Whoever is made from it sees it change all the same.
  const size_t sources = SourceOf(resources::kTrainJob);
  Json train = Job("t");
  train["metadata"]["resourceVersion"] = "7";
  own.Wrote(resources::kTrainJob, {"ns", "t"}, "7");
  EXPECT_EQ(router.Changed(sources, router.Read(sources, train)), itself);
}

TEST_F(Router, AnObjectOfAnUnexpectedShapeStopsNoWatch) {
  EXPECT_EQ(Changed(resources::kEvalJob, Job("odd", Json{{"deep", 7}})), (Wakes{{0, {"ns", "odd"}}}));
  EXPECT_EQ(Changed(resources::kEvalJob, Job("odder", Json::array())), (Wakes{{0, {"ns", "odder"}}}));
}

}  // namespace
}  // namespace anneal::kube
