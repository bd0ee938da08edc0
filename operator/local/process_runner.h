// The kubelet of the embedded mode: pods of the in-memory API as local processes, volumes as folders.
//
// Mount paths in arguments and environment become the volumes' folders; names of the run's Service become 127.0.0.1;
// ports are chosen free. A pod's process group dies with it, and with this process.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "operator/kube/api.h"
#include "operator/kube/reconciler.h"

namespace anneal::local {

struct RunnerOptions {
  std::string state;     ///< folder: volumes/, pods/, logs/ are below it
  std::string programs;  ///< folder where the command `anneal` is
};

class ProcessRunner {
 public:
  ProcessRunner(kube::Api& api, const kube::Clock& clock, RunnerOptions options);
  ~ProcessRunner();

  void Start();
  /// SIGTERM to all pods, then SIGKILL after their grace period (at most `most`), and the end of the threads.
  void Stop(std::chrono::seconds most);

  /// Log file of a pod.
  static std::string LogPath(const std::string& state, const std::string& ns, const std::string& pod);
  /// Folder of a claim.
  static std::string ClaimPath(const std::string& state, const std::string& ns, const std::string& claim);

 private:
  struct Process {
    pid_t pid = 0;
    std::string uid, termination_path, started_at;
    bool asked_to_stop = false;
    std::chrono::steady_clock::time_point kill_at;
  };

  void Loop();
  void Look();
  void StartPod(const kube::Key& key, const kube::Json& pod);
  void Reap();
  void Finish(const kube::Key& key, const Process& process, int wait_status);
  void StopPod(const kube::Key& key, const kube::Json& pod);
  int PortFor(const std::string& purpose);

  kube::Api& api_;
  const kube::Clock& clock_;
  RunnerOptions options_;
  std::map<kube::Key, Process> processes_;
  std::map<std::string, int> ports_;  ///< chosen ports by job, run and attempt
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> grace_seconds_{0};
};

}  // namespace anneal::local
