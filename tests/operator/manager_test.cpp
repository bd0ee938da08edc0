#include "operator/kube/manager.h"

#include <gtest/gtest.h>

#include <deque>
#include <future>
#include <mutex>
#include <set>

namespace anneal::kube {
namespace {

using std::chrono::milliseconds;

/// A watch that gives its events and then ends, or stays open.
class ListedWatch : public Watch {
 public:
  ListedWatch(std::deque<WatchEvent> events, bool stay) : events_(std::move(events)), stay_(stay) {}
  std::optional<WatchEvent> Next(milliseconds timeout) override {
    if (events_.empty()) {
      if (stay_) std::this_thread::sleep_for(std::min(timeout, milliseconds(5)));
      return std::nullopt;
    }
    WatchEvent event = events_.front();
    events_.pop_front();
    return event;
  }
  void Cancel() override {}
  bool done() const override { return events_.empty() && !stay_; }

 private:
  std::deque<WatchEvent> events_;
  bool stay_;
};

/// Lists and watches as a test scripts them; everything else is not called.
class ScriptedApi : public Api {
 public:
  std::function<ListResult(const ListOptions&)> list;
  std::function<std::unique_ptr<Watch>(const ListOptions&)> watch;
  std::mutex mutex;
  std::set<std::string> namespaces;  ///< that were listed
  Json Get(const Resource&, const std::string&, const std::string&) override { return {}; }
  ListResult List(const Resource&, const std::string& ns, const ListOptions& options) override {
    const std::lock_guard lock(mutex);
    namespaces.insert(ns);
    return list(options);
  }
  std::unique_ptr<Watch> StartWatch(const Resource&, const std::string&, const ListOptions& options) override {
    return watch(options);
  }
  Json Create(const Resource&, const std::string&, const Json&) override { return {}; }
  Json MergePatch(const Resource&, const std::string&, const std::string&, const Json&) override { return {}; }
  Json MergePatchStatus(const Resource&, const std::string&, const std::string&, const Json&) override { return {}; }
  void Delete(const Resource&, const std::string&, const std::string&, const Preconditions&,
              std::optional<int64_t>) override {}
};

class Recorder : public Reconciler {
 public:
  const Resource& resource() const override { return resources::kTrainJob; }
  std::vector<Resource> owns() const override { return {}; }
  ReconcileResult Reconcile(const Key& key) override {
    const std::lock_guard lock(mutex);
    seen.push_back(key.name);
    if (key.name == "poison") throw 3;
    return {};
  }
  size_t Count(const std::string& name) {
    const std::lock_guard lock(mutex);
    return static_cast<size_t>(std::count(seen.begin(), seen.end(), name));
  }
  std::mutex mutex;
  std::vector<std::string> seen;
};

Json Object(const std::string& name, const std::string& version) {
  return {{"metadata", {{"name", name}, {"namespace", "ns"}, {"resourceVersion", version}}}};
}

bool Eventually(const std::function<bool()>& test) {
  for (int i = 0; i < 1000; ++i) {
    if (test()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

ManagerOptions Quick() {
  ManagerOptions options;
  options.first_backoff = milliseconds(5);
  return options;
}

TEST(Manager, AnExpiredContinueTokenStartsTheListAgainAndNothingRunsBeforeItIsWhole) {
  ScriptedApi api;
  Recorder recorder;
  std::atomic<int> lists{0};
  std::atomic<bool> ran_early{false};
  api.list = [&](const ListOptions& options) -> ListResult {
    ++lists;
    if (!recorder.seen.empty()) ran_early = true;
    if (options.continue_token.empty()) return {{Object("a", "1")}, "5", "next"};
    if (lists == 2) throw ApiError(410, "Expired", "continue token expired");
    return {{Object("b", "2")}, "5", ""};
  };
  api.watch = [](const ListOptions&) { return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true); };
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, Quick());
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return recorder.Count("a") == 1 && recorder.Count("b") == 1; }));
  EXPECT_EQ(lists, 4);
  EXPECT_FALSE(ran_early);
  EXPECT_EQ(manager.followed(), 2u);
}

// A kind's list takes as long as it likes; a new object is welcomed, one that is served already waits. A welcome's key
// is its own until it ends, also when the lists are whole by then; what it asks for, another look, comes.
TEST(Manager, WhoIsNewIsWelcomedWhileTheListsGoOn) {
  class Welcomer : public Recorder {
   public:
    ReconcileResult Welcome(const Key& key) override {
      Reconcile({key.ns, "welcome " + key.name});
      if (key.name == "slow") leave.get_future().wait();
      if (key.name == "fails") throw ApiError(500, "", "not now");
      if (key.name == "again") return {milliseconds(1)};
      return {};
    }
    std::promise<void> leave;
  };
  for (const bool knows : {true, false}) {
    Welcomer recorder;
    std::promise<void> open;
    std::atomic<int> watches{0};
    const auto opened = open.get_future().share();
    ScriptedApi lists;
    lists.list = [&](const ListOptions&) -> ListResult {
      opened.wait();
      return {{Object("slow", "1"), Object("served", "2")}, "5", ""};
    };
    lists.watch = [&](const ListOptions& options) -> std::unique_ptr<Watch> {
      if (options.field_selector.empty()) return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true);
      EXPECT_EQ(options.field_selector, "status.phase=");
      EXPECT_EQ(options.resource_version, "");
      if (!knows) throw ApiError(400, "BadRequest", "field label not supported");
      if (++watches == 1) throw ApiError(429, "TooManyRequests", "storage is (re)initializing");
      if (watches == 2) return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, false);  // ends at once
      std::deque<WatchEvent> events{{EventType::kDeleted, Object("gone", "3")}};
      for (const char* name : {"fails", "again", "slow"}) events.push_back({EventType::kAdded, Object(name, "4")});
      return std::make_unique<ListedWatch>(events, true);
    };
    ManagerOptions options = Quick();
    options.unserved = "status.phase=";
    std::atomic<int> lines{0};
    Manager manager(
        lists, {&recorder}, 2, [&](const std::string&) { ++lines; }, options);
    manager.Start();
    if (knows) {
      EXPECT_TRUE(Eventually([&] { return recorder.Count("welcome slow") == 1; }));
      EXPECT_EQ(recorder.Count("welcome fails") + recorder.Count("welcome again"), 2u);
      EXPECT_EQ(recorder.Count("welcome gone"), 0u);
    } else {
      std::this_thread::sleep_for(milliseconds(50));
    }
    EXPECT_EQ(recorder.Count("slow") + recorder.Count("served") + recorder.Count("fails") + recorder.Count("again"),
              0u);
    EXPECT_FALSE(manager.synced());
    open.set_value();
    EXPECT_TRUE(Eventually([&] { return recorder.Count("served") == 1; }));
    EXPECT_TRUE(manager.synced());
    if (knows) {
      EXPECT_TRUE(Eventually([&] { return recorder.Count("fails") == 1 && recorder.Count("again") == 1; }));
      EXPECT_EQ(recorder.Count("slow"), 0u);
    }
    recorder.leave.set_value();
    EXPECT_TRUE(Eventually([&] { return recorder.Count("slow") == 1; }));
    EXPECT_EQ(lines, knows ? 1 : 0);  // a server that cannot select is none to complain about
  }
}

// What a welcome has written is listed as its own; the job is looked at again all the same, with all that is known
// then.
TEST(Manager, AFirstListQueuesAlsoWhatThisProcessHasWritten) {
  ScriptedApi api;
  Recorder recorder;
  OwnWrites own;
  own.Wrote(resources::kTrainJob, {"ns", "a"}, "1");
  api.watch = [](const ListOptions&) { return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true); };
  ManagerOptions options = Quick();
  options.own_writes = &own;
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, options);
  // Served already: else it is queued as such.
  api.list = [](const ListOptions&) -> ListResult {
    Json job = Object("a", "1");
    job["metadata"]["generation"] = 1;
    job["status"]["observedGeneration"] = 1;
    return {{job}, "5", ""};
  };
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return recorder.Count("a") == 1; }));
}

TEST(Manager, AWatchThatEndsGoesOnFromTheLastVersionOrBookmarkWithoutAList) {
  ScriptedApi api;
  Recorder recorder;
  std::atomic<int> lists{0}, watches{0};
  std::mutex mutex;
  std::vector<std::string> versions;
  api.list = [&](const ListOptions&) -> ListResult {
    ++lists;
    return {{}, "5", ""};
  };
  api.watch = [&](const ListOptions& options) -> std::unique_ptr<Watch> {
    const std::lock_guard lock(mutex);
    versions.push_back(options.resource_version);
    const int n = ++watches;
    if (n == 2) throw ApiError(0, "Connection", "refused");
    std::deque<WatchEvent> events;
    if (n == 1) events = {{EventType::kAdded, Object("a", "6")}, {EventType::kBookmark, Object("", "9")}};
    return std::make_unique<ListedWatch>(events, n == 3);
  };
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, Quick());
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return watches == 3; }));
  manager.Stop();
  EXPECT_EQ(versions, (std::vector<std::string>{"5", "9", "9"}));
  EXPECT_EQ(lists, 1);
}

TEST(Manager, A410FrameListsAgainAndTellsWhatIsGone) {
  ScriptedApi api;
  Recorder recorder;
  std::atomic<int> lists{0}, watches{0};
  api.list = [&](const ListOptions&) -> ListResult {
    if (++lists == 1) return {{Object("gone", "1"), Object("stays", "2")}, "5", ""};
    return {{Object("stays", "2")}, "8", ""};
  };
  api.watch = [&](const ListOptions&) -> std::unique_ptr<Watch> {
    if (++watches > 1) return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true);
    while (recorder.Count("gone") == 0) std::this_thread::sleep_for(milliseconds(1));
    return std::make_unique<ListedWatch>(
        std::deque<WatchEvent>{{EventType::kError, {{"code", 410}, {"message", "too old"}}}}, false);
  };
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, Quick());
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return recorder.Count("gone") == 2; }));
  EXPECT_EQ(lists, 2);
}

TEST(Manager, ADeadServerIsNotAskedAtFullSpeed) {
  ScriptedApi api;
  Recorder recorder;
  std::atomic<int> watches{0};
  api.list = [](const ListOptions&) -> ListResult { return {{}, "5", ""}; };
  api.watch = [&](const ListOptions&) -> std::unique_ptr<Watch> {
    ++watches;
    return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, false);  // ends at once, with nothing
  };
  ManagerOptions options;
  options.first_backoff = milliseconds(100);
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, options);
  manager.Start();
  std::this_thread::sleep_for(milliseconds(1000));
  manager.Stop();
  EXPECT_LE(watches, 8);  // each pause is twice the one before; without pauses there would be thousands
}

TEST(Manager, AfterAStartJobsThatNobodyHasServedComeFirst) {
  ScriptedApi api;
  Recorder recorder;
  api.list = [](const ListOptions&) -> ListResult {
    std::vector<Json> jobs;
    for (int i = 0; i < 50; ++i) {
      jobs.push_back(Object("old" + std::to_string(i), "1"));
      jobs.back()["metadata"]["generation"] = 2;
      jobs.back()["status"]["observedGeneration"] = 2;
    }
    jobs.push_back(Object("changed", "1"));
    jobs.back()["metadata"]["generation"] = 2;
    jobs.back()["status"]["observedGeneration"] = 1;
    jobs.push_back(Object("new", "1"));
    jobs.back()["metadata"]["generation"] = 1;
    return {jobs, "5", ""};
  };
  api.watch = [](const ListOptions&) { return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true); };
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, Quick());
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return recorder.Count("old49") == 1; }));
  manager.Stop();
  EXPECT_EQ(recorder.seen.size(), 52u);
  EXPECT_EQ(recorder.seen[0], "changed");
  EXPECT_EQ(recorder.seen[1], "new");
}

TEST(Manager, WhateverAReconcileThrowsOthersGoOn) {
  ScriptedApi api;
  Recorder recorder;
  api.list = [](const ListOptions&) -> ListResult { return {{Object("poison", "1"), Object("z", "2")}, "5", ""}; };
  api.watch = [](const ListOptions&) { return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true); };
  std::mutex mutex;
  std::map<std::string, std::string> errors;
  ManagerOptions options = Quick();
  options.reconciled = [&](const ManagerOptions::Reconciled& done) {
    const std::lock_guard lock(mutex);
    errors[done.key.ns + "/" + done.key.name] = done.error;
  };
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, options);
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return recorder.Count("z") == 1 && recorder.Count("poison") > 1; }));
  manager.Stop();
  EXPECT_EQ(errors, (std::map<std::string, std::string>{{"ns/poison", "unknown exception"}, {"ns/z", ""}}));
}

TEST(Manager, OnlyTheGivenNamespacesAreListed) {
  ScriptedApi api;
  Recorder recorder;
  api.list = [](const ListOptions&) -> ListResult { return {{}, "5", ""}; };
  api.watch = [](const ListOptions&) { return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true); };
  ManagerOptions options = Quick();
  options.namespaces = {"a", "b"};
  Manager manager(
      api, {&recorder}, 1, [](const std::string&) {}, options);
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return manager.synced(); }));
  EXPECT_EQ(api.namespaces, (std::set<std::string>{"a", "b"}));
}

/// Reconciles wait until the test lets them go.
class Held : public Recorder {
 public:
  ReconcileResult Reconcile(const Key& key) override {
    most = std::max(most.load(), ++running);
    while (hold) std::this_thread::sleep_for(milliseconds(1));
    --running;
    return Recorder::Reconcile(key);
  }
  std::atomic<bool> hold{true};
  std::atomic<int> running{0}, most{0};
};

TEST(Manager, WorkersBoundWhatRunsAtOnceAndStopLetsItFinishButBeginsNoMore) {
  ScriptedApi api;
  Held held;
  api.list = [](const ListOptions&) -> ListResult {
    ListResult all{{}, "5", ""};
    for (int i = 0; i < 20; ++i) all.items.push_back(Object("job" + std::to_string(i), "1"));
    return all;
  };
  api.watch = [](const ListOptions&) { return std::make_unique<ListedWatch>(std::deque<WatchEvent>{}, true); };
  Manager manager(
      api, {&held}, 2, [](const std::string&) {}, Quick());
  manager.Start();
  EXPECT_TRUE(Eventually([&] { return held.running == 2; }));
  std::atomic<bool> stopped{false};
  std::thread stopping([&] {
    manager.Stop();
    stopped = true;
  });
  int late = 0;
  EXPECT_TRUE(Eventually([&] {  // nothing is taken any more
    const size_t before = manager.kinds()[0].queue.depth;
    manager.Enqueue(resources::kTrainJob, {"ns", "late" + std::to_string(++late)});
    return manager.kinds()[0].queue.depth == before;
  }));
  EXPECT_FALSE(stopped);
  held.hold = false;
  stopping.join();
  EXPECT_EQ(held.seen.size(), 2u);
  EXPECT_EQ(held.most, 2);
}

}  // namespace
}  // namespace anneal::kube
