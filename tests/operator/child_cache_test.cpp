#include "operator/kube/child_cache.h"

#include <gtest/gtest.h>

namespace anneal::kube {
namespace {

const Key kKey{"ns", "a-r1-a1-w0"};

Json Pod(const std::string& uid, const std::string& version, const std::string& phase) {
  return {{"metadata",
           {{"name", kKey.name},
            {"namespace", kKey.ns},
            {"uid", uid},
            {"resourceVersion", version},
            {"labels", {{"anneal.dev/run", "1"}, {"app", "x"}}},
            {"ownerReferences", {{{"uid", "job"}, {"controller", true}, {"name", "a"}}}}}},
          {"spec", {{"nodeName", "n1"}, {"containers", {{{"name", "worker"}, {"image", "i"}}}}}},
          {"status", {{"phase", phase}, {"qosClass", "BestEffort"}}}};
}

class Children : public testing::Test {
 protected:
  void Told(const Json& pod) {
    const ChildCache::Child child = ChildCache::Pack(pod);
    cache.Put(kKey, child.owner, child.body);
  }
  /// resourceVersions of the job's pods, then how many are unsure.
  std::string Of(const std::string& owner = "job") {
    const ChildCache::Children children = cache.Of(owner, now);
    std::string text;
    for (const Json& pod : children.known) text += pod["metadata"]["resourceVersion"].get<std::string>() + " ";
    return text + "?" + std::to_string(children.unsure.size());
  }

  ChildCache cache;
  Clock::Time now = std::chrono::system_clock::from_time_t(1'800'000'000);
};

TEST_F(Children, AreKeptByOwnerWithTheFieldsThatAreRead) {
  Told(Pod("u1", "5", "Pending"));
  Told(Pod("u1", "6", "Running"));
  EXPECT_EQ(Of(), "6 ?0");
  EXPECT_EQ(Of("other"), "?0");
  EXPECT_EQ(cache.Of("job", now).known[0],
            Json::parse(R"({"metadata":{"name":"a-r1-a1-w0","namespace":"ns","uid":"u1","resourceVersion":"6",
                            "labels":{"anneal.dev/run":"1"},"ownerReferences":[{"uid":"job"}]},
                            "spec":{"nodeName":"n1"},"status":{"phase":"Running"}})"));
  cache.Erase(kKey, "job", "another pod of the name");
  EXPECT_EQ(Of(), "6 ?0");
  cache.Erase(kKey, "job", "u1");
  EXPECT_EQ(Of(), "?0");
}

TEST_F(Children, WhatWasMadeIsThereBeforeTheWatchTells) {
  cache.Expect(kKey, "job");
  cache.Made(Pod("u1", "5", "Pending"), now);
  EXPECT_EQ(Of(), "5 ?0");
  Told(Pod("u1", "5", "Pending"));
  Told(Pod("u1", "6", "Running"));
  EXPECT_EQ(Of(), "6 ?0");
}

TEST_F(Children, AnAnswerThatComesAfterTheWatchChangesNothing) {
  cache.Expect(kKey, "job");
  Told(Pod("u1", "5", "Pending"));
  cache.Erase(kKey, "job", "u1");
  cache.Made(Pod("u1", "5", "Pending"), now);
  EXPECT_EQ(Of(), "?0");
}

TEST_F(Children, ALostAnswerIsAskedForUntilSomebodyTells) {
  cache.Expect(kKey, "job");
  EXPECT_EQ(Of(), "?1");
  cache.Made(Pod("u1", "5", "Pending"), now);
  EXPECT_EQ(Of(), "5 ?0");
  now += std::chrono::seconds(11);  // the watch is silent: the pod may be gone again
  EXPECT_EQ(Of(), "?1");
  cache.NotMade(kKey);
  EXPECT_EQ(Of(), "?0");
}

TEST_F(Children, APodOfAnEarlierJobOfTheNameEndsNoWaiting) {
  cache.Expect(kKey, "job");
  Json earlier = Pod("u0", "3", "Running");
  earlier["metadata"]["ownerReferences"][0]["uid"] = "earlier";
  Told(earlier);
  EXPECT_EQ(Of(), "?1");
  EXPECT_EQ(Of("earlier"), "3 ?0");
}

}  // namespace
}  // namespace anneal::kube
