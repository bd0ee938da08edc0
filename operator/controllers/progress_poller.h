// Reads rank 0's /progress of running jobs, outside the reconcile workers: many at a time, so that pods that do not
// answer keep nobody waiting.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "operator/kube/reconciler.h"

namespace anneal::controllers {

class ProgressPoller {
 public:
  /// Polls every `interval` and calls `changed` for jobs whose progress moved. No thread runs when interval is 0.
  ProgressPoller(std::chrono::milliseconds interval,
                 std::function<void(const kube::Resource&, const kube::Key&)> changed);
  ~ProgressPoller();

  static constexpr int kAtATime = 64;        ///< requests in flight
  static constexpr size_t kLongest = 65536;  ///< bytes of an answer

  /// Notes where the job's rank 0 can be asked now and returns the newest answer (null when there is none yet).
  /// `resource`: one of kube::resources, which last.
  kube::Json Latest(const kube::Resource& resource, const kube::Key& key, const std::vector<kube::Json>& pods,
                    const kube::Json& status);
  void Forget(const kube::Resource& resource, const kube::Key& key);

 private:
  /// The kind's plural name and the job.
  using Id = std::pair<std::string, kube::Key>;
  struct Target {
    const kube::Resource* resource;
    std::string url, pod;  ///< UID of the pod
    kube::Json answer;
  };
  void Loop();
  void Ask(const Id& id, const Target& target);
  void Take(const Id& id, const std::string& pod, kube::Json answer);

  std::chrono::milliseconds interval_;
  std::function<void(const kube::Resource&, const kube::Key&)> changed_;
  std::mutex mutex_;
  std::map<Id, Target> targets_;
  std::condition_variable changed_state_;
  int in_flight_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace anneal::controllers
