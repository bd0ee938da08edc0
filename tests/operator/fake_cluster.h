// An in-memory API with a stepped clock and pods whose ends the test decides.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "operator/api/conditions.h"
#include "operator/api/schema.h"
#include "operator/controllers/controllers.h"
#include "operator/local/memory_api.h"

namespace anneal::tests {

using kube::Json;
namespace resources = kube::resources;

class FakeClock : public kube::Clock {
 public:
  Time Now() const override { return now; }
  Time now = std::chrono::system_clock::from_time_t(1'800'000'000);
};

class FakeCluster {
 public:
  using Admit = std::function<Json(const kube::Resource&, Json)>;
  explicit FakeCluster(Admit admit = api::DefaultAndValidate)
      : api({"", std::move(admit)}, clock), poller(std::chrono::milliseconds(0), [](auto&, auto&) {}) {}

  /// One look of every reconciler at every job, repeated until nothing changes.
  void Settle() {
    for (int round = 0; round < 50; ++round) {
      const std::string before = api.List(resources::kPod, "", {}).resource_version;
      const int crashes_before = crashes;
      // New reconcilers each time: nothing may live in their memory.
      const auto reconcilers = controllers::MakeReconcilers({api, clock, poller});
      for (const auto& reconciler : reconcilers) {
        for (const Json& job : api.List(reconciler->resource(), "", {}).items) {
          Reconcile(*reconciler, {job["metadata"]["namespace"], job["metadata"]["name"]});
        }
      }
      Kubelet();
      if (crashes == crashes_before && api.List(resources::kPod, "", {}).resource_version == before) return;
      if (round > 20 && crashes > crashes_before) return;  // a fault that does not go away by itself
    }
    FAIL() << "the reconcilers do not come to rest";
  }

  void Advance(int seconds) {
    clock.now += std::chrono::seconds(seconds);
    Settle();
  }

  /// Ends a pod's container.
  void End(const std::string& pod, int code, const std::string& message = "") {
    const Json ended = {{"exitCode", code},
                        {"reason", code == 0 ? "Completed" : "Error"},
                        {"message", message},
                        {"finishedAt", kube::FormatTime(clock.now)}};
    api.MergePatchStatus(resources::kPod, "default", pod,
                         {{"status",
                           {{"phase", code == 0 ? "Succeeded" : "Failed"},
                            {"containerStatuses", {{{"name", "worker"}, {"state", {{"terminated", ended}}}}}}}}});
  }

  Json Get(const kube::Resource& resource, const std::string& name) { return api.Get(resource, "default", name); }
  std::string Phase(const kube::Resource& resource, const std::string& name) {
    return Get(resource, name)["status"].value("phase", "");
  }
  std::vector<std::string> Pods() {
    std::vector<std::string> names;
    for (const Json& pod : api.List(resources::kPod, "", {}).items) names.push_back(pod["metadata"]["name"]);
    return names;
  }

  FakeClock clock;
  local::MemoryApi api;
  controllers::ProgressPoller poller;
  int crashes = 0;
  bool hold_pending = false;  ///< pods stay Pending
  bool hold_deleted = false;  ///< deleted pods stay Terminating

 private:
  void Reconcile(kube::Reconciler& reconciler, const kube::Key& key) {
    try {
      reconciler.Reconcile(key);
    } catch (const kube::ApiError&) {
      ++crashes;  // tried again in the next round
    }
  }

  /// Starts waiting pods; lets deleted ones go.
  void Kubelet() {
    for (const Json& pod : api.List(resources::kPod, "", {}).items) {
      const std::string name = pod["metadata"]["name"];
      try {
        if (pod["metadata"].contains("deletionTimestamp")) {
          if (!hold_deleted) api.Delete(resources::kPod, "default", name, {}, 0);
        } else if (!hold_pending && (!pod.contains("status") || pod["status"].value("phase", "") == "Pending")) {
          api.MergePatchStatus(resources::kPod, "default", name,
                               {{"status", {{"phase", "Running"}, {"startTime", kube::FormatTime(clock.now)}}}});
        }
      } catch (const kube::ApiError&) {
        ++crashes;
      }
    }
  }
};

}  // namespace anneal::tests
