// The embedded API server keeps the real one's semantics.
#include <filesystem>

#include "tests/operator/fake_cluster.h"

namespace anneal::tests {
namespace {

using local::MatchesSelector;
using local::MemoryApi;
using resources::kConfigMap;
using resources::kPod;

Json Map(const std::string& name, Json metadata = Json::object()) {
  metadata["name"] = name;
  return {{"metadata", metadata}, {"data", {{"k", "v"}}}};
}

/// Status and reason of a failed call; "" when it succeeds.
template <typename Function>
std::string Failure(Function function) {
  try {
    function();
  } catch (const kube::ApiError& error) {
    return std::to_string(error.status()) + " " + error.reason();
  }
  return "";
}

class MemoryApiTest : public testing::Test {
 protected:
  FakeClock clock;
  MemoryApi api{{"", nullptr, 16}, clock};
};

TEST_F(MemoryApiTest, CreateGetAndConflicts) {
  const Json made = api.Create(kConfigMap, "ns", Map("a"));
  EXPECT_EQ(made["metadata"]["generation"], 1);
  EXPECT_EQ(made["metadata"]["creationTimestamp"], kube::FormatTime(clock.now));
  EXPECT_EQ(Failure([&] { api.Create(kConfigMap, "ns", Map("a")); }), "409 AlreadyExists");
  EXPECT_EQ(Failure([&] { api.Get(kConfigMap, "ns", "b"); }), "404 NotFound");
  EXPECT_EQ(Failure([&] { api.Create(kConfigMap, "ns", Map("Bad_Name")); }), "422 Invalid");
  const Json patched = api.MergePatch(kConfigMap, "ns", "a", {{"data", {{"k", nullptr}, {"x", "y"}}}});
  EXPECT_EQ(patched["data"], Json({{"x", "y"}}));
  EXPECT_EQ(Failure([&] {
              api.MergePatch(
                  kConfigMap, "ns", "a",
                  {{"metadata", {{"resourceVersion", made["metadata"]["resourceVersion"]}}}, {"data", {{"z", "1"}}}});
            }),
            "409 Conflict");
  EXPECT_EQ(api.MergePatch(kConfigMap, "ns", "a", {{"data", {{"x", "y"}}}})["metadata"]["resourceVersion"],
            patched["metadata"]["resourceVersion"]);
}

TEST_F(MemoryApiTest, StatusIsApartFromSpec) {
  api.Create(kPod, "ns", {{"metadata", {{"name", "p"}}}, {"spec", {{"a", 1}}}});
  api.MergePatch(kPod, "ns", "p", {{"status", {{"phase", "Failed"}}}});
  EXPECT_FALSE(api.Get(kPod, "ns", "p").contains("status"));
  api.MergePatchStatus(kPod, "ns", "p", {{"status", {{"phase", "Running"}}}, {"spec", {{"a", 2}}}});
  EXPECT_EQ(api.Get(kPod, "ns", "p")["spec"]["a"], 1);
  EXPECT_EQ(api.Get(kPod, "ns", "p")["metadata"]["generation"], 1);
  api.MergePatch(kPod, "ns", "p", {{"spec", {{"a", 2}}}});
  EXPECT_EQ(api.Get(kPod, "ns", "p")["metadata"]["generation"], 2);
}

TEST_F(MemoryApiTest, DeletePreconditionsFinalizersAndGrace) {
  const Json made = api.Create(kConfigMap, "ns", Map("a", {{"finalizers", {"x/y"}}}));
  kube::Preconditions other;
  other.uid = "not-this";
  EXPECT_EQ(Failure([&] { api.Delete(kConfigMap, "ns", "a", other, {}); }), "409 Conflict");
  api.Delete(kConfigMap, "ns", "a", {}, {});
  EXPECT_TRUE(api.Get(kConfigMap, "ns", "a")["metadata"].contains("deletionTimestamp"));
  api.MergePatch(kConfigMap, "ns", "a", {{"metadata", {{"finalizers", nullptr}}}});
  EXPECT_EQ(Failure([&] { api.Get(kConfigMap, "ns", "a"); }), "404 NotFound");

  api.Create(kPod, "ns", {{"metadata", {{"name", "p"}}}, {"spec", {{"terminationGracePeriodSeconds", 7}}}});
  api.MergePatchStatus(kPod, "ns", "p", {{"status", {{"phase", "Running"}, {"startTime", "2026-11-24T00:00:00Z"}}}});
  api.Delete(kPod, "ns", "p", {}, {});
  EXPECT_EQ(api.Get(kPod, "ns", "p")["metadata"]["deletionGracePeriodSeconds"], 7);
  api.Delete(kPod, "ns", "p", {}, 0);
  EXPECT_EQ(Failure([&] { api.Get(kPod, "ns", "p"); }), "404 NotFound");
}

TEST_F(MemoryApiTest, OrphansAreCollected) {
  const Json owner = api.Create(kConfigMap, "ns", Map("owner"));
  const Json reference = {{"kind", "ConfigMap"}, {"name", "owner"}, {"uid", owner["metadata"]["uid"]}};
  const Json child = api.Create(kConfigMap, "ns", Map("child", {{"ownerReferences", {reference}}}));
  const Json second = {{"kind", "ConfigMap"}, {"name", "child"}, {"uid", child["metadata"]["uid"]}};
  api.Create(kConfigMap, "ns", Map("grandchild", {{"ownerReferences", {second}}}));
  api.Delete(kConfigMap, "ns", "owner", {}, {});
  EXPECT_TRUE(api.List(kConfigMap, "", {}).items.empty());
}

TEST_F(MemoryApiTest, ListPagesAndSelectors) {
  for (int i = 0; i < 5; ++i)
    api.Create(kConfigMap, i % 2 ? "a" : "b", Map("m" + std::to_string(i), {{"labels", {{"n", std::to_string(i)}}}}));
  kube::ListOptions page;
  page.limit = 2;
  std::vector<std::string> names;
  do {
    const auto result = api.List(kConfigMap, "", page);
    for (const Json& item : result.items) names.push_back(item["metadata"]["name"]);
    page.continue_token = result.continue_token;
  } while (!page.continue_token.empty());
  EXPECT_EQ(names.size(), 5u);
  EXPECT_EQ(api.List(kConfigMap, "a", {}).items.size(), 2u);
  EXPECT_TRUE(MatchesSelector({{"a", "1"}}, "a=1,b!=2,!c,a"));
  EXPECT_FALSE(MatchesSelector({{"a", "1"}}, "a=2"));
  EXPECT_FALSE(MatchesSelector({{"a", "1"}}, "b"));
  // A token from before the forgotten history has expired.
  page.limit = 1;
  page.continue_token = "";
  page.continue_token = api.List(kConfigMap, "", page).continue_token;
  for (int i = 0; i < 40; ++i) api.MergePatch(kConfigMap, "b", "m0", {{"data", {{"k", std::to_string(i)}}}});
  EXPECT_EQ(Failure([&] { api.List(kConfigMap, "", page); }), "410 Expired");
}

TEST_F(MemoryApiTest, WatchReplaysAndExpires) {
  const std::string start = api.List(kConfigMap, "", {}).resource_version;
  api.Create(kConfigMap, "ns", Map("a"));
  kube::ListOptions from;
  from.resource_version = start;
  const auto watch = api.StartWatch(kConfigMap, "ns", from);
  api.MergePatch(kConfigMap, "ns", "a", {{"data", {{"k", "w"}}}});
  api.Delete(kConfigMap, "ns", "a", {}, {});
  std::vector<kube::EventType> types;
  while (const auto event = watch->Next(std::chrono::milliseconds(1))) types.push_back(event->type);
  EXPECT_EQ(types, (std::vector<kube::EventType>{kube::EventType::kAdded, kube::EventType::kModified,
                                                 kube::EventType::kDeleted}));
  for (int i = 0; i < 40; ++i) api.Create(kConfigMap, "ns", Map("m" + std::to_string(i)));
  EXPECT_EQ(Failure([&] { api.StartWatch(kConfigMap, "ns", from); }), "410 Expired");
  watch->Cancel();
}

TEST_F(MemoryApiTest, AWatchWithoutAVersionFirstTellsWhatIsThere) {
  api.Create(kConfigMap, "ns", Map("a"));
  api.Create(kConfigMap, "other", Map("b"));
  const auto watch = api.StartWatch(kConfigMap, "ns", {});
  api.Create(kConfigMap, "ns", Map("c"));
  std::vector<std::string> told;
  while (const auto event = watch->Next(std::chrono::milliseconds(1))) {
    EXPECT_EQ(event->type, kube::EventType::kAdded);
    told.push_back(event->object["metadata"]["name"]);
  }
  EXPECT_EQ(told, (std::vector<std::string>{"a", "c"}));
}

TEST_F(MemoryApiTest, ObjectsOutliveTheProcess) {
  std::filesystem::remove_all("objects");
  Json made;
  {
    MemoryApi first({"objects", nullptr}, clock);
    made = first.Create(kConfigMap, "ns", Map("a"));
    first.Create(kConfigMap, "ns", Map("b"));
    first.Delete(kConfigMap, "ns", "b", {}, {});
  }
  MemoryApi second({"objects", nullptr}, clock);
  EXPECT_EQ(second.Get(kConfigMap, "ns", "a"), made);
  EXPECT_EQ(second.List(kConfigMap, "", {}).items.size(), 1u);
  const Json next = second.MergePatch(kConfigMap, "ns", "a", {{"data", {{"k", "2"}}}});
  EXPECT_GT(std::stoll(next["metadata"]["resourceVersion"].get<std::string>()),
            std::stoll(made["metadata"]["resourceVersion"].get<std::string>()));
}

}  // namespace
}  // namespace anneal::tests
