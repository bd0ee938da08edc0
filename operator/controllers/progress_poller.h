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
  kube::Json Latest(const kube::Resource& resource, const kube::Key& key, const std::vector<kube::Json>& pods,
                    const kube::Json& status);
  void Forget(const kube::Resource& resource, const kube::Key& key);

 private:
  struct Target {
    kube::Resource resource;
    kube::Key key;
    std::string url, pod;
    kube::Json answer;
  };
  void Loop();
  void Ask(const Target& target);
  void Take(const Target& target, kube::Json answer);

  std::chrono::milliseconds interval_;
  std::function<void(const kube::Resource&, const kube::Key&)> changed_;
  std::mutex mutex_;
  std::map<std::string, Target> targets_;  ///< by "plural/ns/name"
  std::condition_variable changed_state_;
  int in_flight_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace anneal::controllers
