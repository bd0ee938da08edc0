#include "operator/local/run_command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>
#include <thread>

#include "operator/api/schema.h"
#include "operator/controllers/controllers.h"
#include "operator/kube/manager.h"
#include "operator/local/manifests.h"
#include "operator/local/memory_api.h"
#include "operator/local/process_runner.h"
#include "operator/local/table.h"
#include "worker/config/error.h"

namespace anneal::local {
namespace {

namespace fs = std::filesystem;
using kube::Json;
using std::chrono::milliseconds;

volatile sig_atomic_t interrupted = 0;

/// One `run` per state folder.
class StateLock {
 public:
  explicit StateLock(const std::string& state) {
    fs::create_directories(state);
    const std::string path = state + "/lock";
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) throw TemporaryError("cannot write " + path);
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      throw ConfigError(state + " is in use by another `anneal-operator run`; stop it or choose another --state");
    }
  }
  ~StateLock() { ::close(fd_); }
  StateLock(const StateLock&) = delete;
  StateLock& operator=(const StateLock&) = delete;

 private:
  int fd_ = -1;
};

struct Watched {
  kube::Resource resource;
  std::string ns, name;
};

/// Shows the jobs: a table that redraws itself on a terminal, a line per change otherwise.
class Display {
 public:
  void Show(const std::vector<Json>& jobs) {
    if (terminal_) {
      std::string text;
      for (const Json& job : jobs) text += "\033[K" + JobLine(job) + "\n";
      if (drawn_ > 0) std::cout << "\033[" << drawn_ << "A";
      std::cout << text << std::flush;
      drawn_ = static_cast<int>(jobs.size());
      return;
    }
    for (const Json& job : jobs) {
      const std::string line = JobLine(job),
                        id = job["kind"].get<std::string>() + job["metadata"]["name"].get<std::string>();
      const std::string phase = job.value("status", Json::object()).value("phase", "");
      const auto now = std::chrono::steady_clock::now();
      Last& last = last_[id];
      if (line == last.line || (phase == last.phase && now - last.at < std::chrono::seconds(2))) continue;
      last = {line, phase, now};
      std::cout << line << std::endl;
    }
  }

 private:
  struct Last {
    std::string line, phase;
    std::chrono::steady_clock::time_point at{};
  };
  bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  int drawn_ = 0;
  std::map<std::string, Last> last_;
};

void PrintSummary(const std::vector<Json>& jobs, const std::string& state) {
  std::cout << "\n";
  for (const Json& job : jobs) {
    const Outcome outcome = OutcomeOf(job);
    std::cout << JobLine(job) << "\n";
    if (!outcome.well) {
      std::cout << "  reason: " << (outcome.reason.empty() ? "it did not end" : outcome.reason)
                << "\n  logs:   anneal-operator logs --state " << state << " "
                << job["metadata"]["name"].get<std::string>() << "\n";
    }
  }
}

}  // namespace

int RunCommand(const RunOptions& options) {
  std::vector<Manifest> manifests;
  for (const std::string& file : options.files) {
    for (Manifest& manifest : LoadManifests(file)) manifests.push_back(std::move(manifest));
  }
  const StateLock lock(options.state);
  const kube::Clock clock;
  MemoryApi api({options.state + "/objects", api::DefaultAndValidate}, clock);
  // Dry: nothing is started when a manifest is wrong.
  for (const Manifest& manifest : manifests) {
    try {
      api::DefaultAndValidate(manifest.resource, manifest.object);
    } catch (const kube::ApiError& error) {
      throw ConfigError(manifest.where + ": " + error.what());
    }
  }
  std::vector<Watched> watched;
  for (const Manifest& manifest : manifests) {
    const Json object = Apply(api, manifest);
    if (api::FindKind(manifest.resource)) {
      watched.push_back({manifest.resource, object["metadata"]["namespace"], object["metadata"]["name"]});
    }
  }

  ::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = interrupted + 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);

  std::unique_ptr<kube::Manager> manager;
  controllers::ProgressPoller poller(milliseconds(500), [&](const kube::Resource& resource, const kube::Key& key) {
    if (manager) manager->Enqueue(resource, key);
  });
  const auto reconcilers = controllers::MakeReconcilers({api, clock, poller});
  std::vector<kube::Reconciler*> pointers;
  for (const auto& reconciler : reconcilers) pointers.push_back(reconciler.get());
  kube::ManagerOptions how;
  how.reconciled = [](const kube::ManagerOptions::Reconciled& done) {
    if (!done.error.empty()) {
      std::cerr << done.kind + " " + done.key.ns + "/" + done.key.name + ": " + done.error + "\n" << std::flush;
    }
  };
  manager = std::make_unique<kube::Manager>(
      api, pointers, 2, [](const std::string& line) { std::cerr << line << std::endl; }, how);
  ProcessRunner runner(api, clock, {options.state, options.programs});
  runner.Start();
  manager->Start();

  Display display;
  const auto began = std::chrono::steady_clock::now();
  std::vector<Json> jobs;
  // A job that follows another may look ended for the moment before it is told of a new run: the end has to last.
  constexpr int kEndedLooks = 10;
  int ended_looks = 0;
  bool late = false;
  while (ended_looks < kEndedLooks && !interrupted && !late) {
    std::this_thread::sleep_for(milliseconds(100));
    jobs.clear();
    bool ended = true;
    for (const Watched& job : watched) {
      auto found = kube::Find(api, job.resource, job.ns, job.name);
      if (!found) continue;
      ended = ended && OutcomeOf(*found).ended;
      jobs.push_back(std::move(*found));
    }
    ended_looks = ended ? ended_looks + 1 : 0;
    display.Show(jobs);
    late = options.timeout_seconds > 0 &&
           std::chrono::steady_clock::now() - began > std::chrono::seconds(options.timeout_seconds);
  }
  if (interrupted) std::cout << "\nstopping: workers write a checkpoint (again Ctrl-C: kill them)" << std::endl;
  if (late) std::cout << "\nstopping: --timeout " << options.timeout_seconds << " has passed" << std::endl;
  const bool ended = ended_looks >= kEndedLooks;
  // Reconcilers stop first, so that pods stopped by us do not look like failures to them.
  manager->Stop();
  runner.Stop(std::chrono::seconds(ended ? 5 : interrupted > 1 ? 0 : 60));
  PrintSummary(jobs, options.state);
  if (interrupted) return 130;
  bool well = ended;
  for (const Json& job : jobs) well = well && OutcomeOf(job).well;
  return well ? 0 : 1;
}

}  // namespace anneal::local
