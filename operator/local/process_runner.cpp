#include "operator/local/process_runner.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "operator/local/pod_command.h"

extern char** environ;

namespace anneal::local {
namespace {

namespace fs = std::filesystem;
using kube::ApiError;
using kube::Json;
using kube::Key;
namespace resources = kube::resources;

int FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int port = 0;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port = ntohs(address.sin_port);
  }
  ::close(fd);
  return port;
}

std::string ReadFile(const std::string& path, size_t most) {
  std::ifstream in(path, std::ios::binary);
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(most));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

std::string LastLines(const std::string& path, size_t most) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return "";
  const auto size = static_cast<size_t>(in.tellg());
  const size_t from = size > most ? size - most : 0;
  in.seekg(static_cast<std::streamoff>(from));
  std::string text(size - from, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text;
}

/// Folders of the pod's volumes; config maps are written out.
PathMap MakeVolumes(kube::Api& api, const Json& pod, const std::string& state, const fs::path& own) {
  const std::string ns = pod["metadata"].value("namespace", "default");
  std::map<std::string, fs::path> folders;
  for (const Json& volume : pod["spec"].value("volumes", Json::array())) {
    const std::string name = volume["name"];
    fs::path folder = own / "volumes" / name;
    if (volume.contains("secret")) {
      throw std::runtime_error(
          "Secret " + volume["secret"].value("secretName", "") +
          ": the embedded mode has no Secrets; mount a folder with data.volumes[].hostPath instead, and give "
          "environment credentials in this shell");
    }
    if (volume.contains("persistentVolumeClaim")) {
      folder = ProcessRunner::ClaimPath(state, ns, volume["persistentVolumeClaim"]["claimName"]);
    } else if (volume.contains("hostPath")) {
      folder = volume["hostPath"]["path"].get<std::string>();
    }
    fs::create_directories(folder);
    if (volume.contains("configMap")) {
      const Json map = api.Get(resources::kConfigMap, ns, volume["configMap"]["name"]);
      const Json data = map.value("data", Json::object());            // items() does not keep a temporary alive
      const Json items = volume["configMap"].value("items", Json());  // null: all of it
      for (const auto& [file, text] : data.items()) {
        const auto named = [&file = file](const Json& item) { return item["key"] == file; };
        if (items.is_array() && std::none_of(items.begin(), items.end(), named)) continue;
        if (file.find('/') != std::string::npos) continue;
        std::ofstream(folder / file, std::ios::binary) << text.get<std::string>();
      }
    }
    folders[name] = folder;
  }
  PathMap paths;
  for (const Json& mount : pod["spec"]["containers"][0].value("volumeMounts", Json::array())) {
    const auto folder = folders.find(mount["name"]);
    const std::string path = mount["mountPath"];
    if (folder == folders.end() || path == "/tmp" || path == "/dev/shm") continue;
    const fs::path target = folder->second / mount.value("subPath", "");
    fs::create_directories(target);
    paths.emplace_back(path, fs::absolute(target).lexically_normal().string());
  }
  for (auto& [from, to] : paths) {
    while (to.size() > 1 && to.back() == '/') to.pop_back();
  }
  return paths;
}

}  // namespace

std::string ProcessRunner::LogPath(const std::string& state, const std::string& ns, const std::string& pod) {
  return (fs::path(state) / "logs" / ns / (pod + ".log")).string();
}

std::string ProcessRunner::ClaimPath(const std::string& state, const std::string& ns, const std::string& claim) {
  return fs::absolute(fs::path(state) / "volumes" / ns / claim).string();
}

ProcessRunner::ProcessRunner(kube::Api& api, const kube::Clock& clock, RunnerOptions options)
    : api_(api), clock_(clock), options_(std::move(options)) {}

ProcessRunner::~ProcessRunner() { Stop(std::chrono::seconds(0)); }

void ProcessRunner::Start() {
  thread_ = std::thread([this] { Loop(); });
}

void ProcessRunner::Loop() {
  while (!stopping_) {
    Reap();
    try {
      Look();
    } catch (const std::exception&) {  // the API may refuse for a moment: look again
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  // In this thread: children are bound to the thread that made them, and die with it.
  for (auto& [key, process] : processes_) ::kill(-process.pid, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(grace_seconds_.load());
  while (!processes_.empty()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      for (auto& [key, process] : processes_) ::kill(-process.pid, SIGKILL);
    }
    Reap();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void ProcessRunner::Stop(std::chrono::seconds most) {
  grace_seconds_ = most.count();
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

// Starts pods that wait, stops those being deleted, and reports pods whose process an earlier life of this program
// lost.
void ProcessRunner::Look() {
  for (const Json& pod : api_.List(resources::kPod, "", {}).items) {
    const Json& metadata = pod["metadata"];
    const Key key{metadata.value("namespace", ""), metadata["name"]};
    const std::string phase = pod.value("status", Json::object()).value("phase", "Pending");
    const auto process = processes_.find(key);
    const bool running = process != processes_.end() && process->second.uid == metadata["uid"];
    if (metadata.contains("deletionTimestamp")) {
      StopPod(key, pod);
    } else if (phase == "Pending" && !running) {
      StartPod(key, pod);
    } else if (phase == "Running" && !running) {
      const Json lost = {{"exitCode", 137}, {"reason", "Lost"}, {"finishedAt", kube::FormatTime(clock_.Now())}};
      api_.MergePatchStatus(resources::kPod, key.ns, key.name,
                            {{"status",
                              {{"phase", "Failed"},
                               {"reason", "Lost"},
                               {"containerStatuses", {{{"name", "worker"}, {"state", {{"terminated", lost}}}}}}}}});
    }
  }
}

int ProcessRunner::PortFor(const std::string& purpose) {
  auto [found, inserted] = ports_.try_emplace(purpose, 0);
  if (inserted) found->second = FreePort();
  return found->second;
}

void ProcessRunner::StartPod(const Key& key, const Json& pod) {
  const Json& metadata = pod["metadata"];
  const Json labels = metadata.value("labels", Json::object());
  const fs::path own = fs::absolute(fs::path(options_.state) / "pods" / key.ns / key.name);
  const std::string log = LogPath(options_.state, key.ns, key.name);
  std::string problem;
  PodCommand command;
  LocalNames names;
  names.programs = options_.programs;
  names.master_port =
      PortFor(key.ns + "/" + labels.value("anneal.dev/job-kind", "") + "/" + labels.value("anneal.dev/job-name", "") +
              "/" + labels.value("anneal.dev/run", "") + "/" + labels.value("anneal.dev/attempt", ""));
  names.progress_port = FreePort();
  const std::string termination = (own / "termination-log").string();
  try {
    fs::create_directories(own);
    fs::create_directories(fs::path(log).parent_path());
    fs::remove(termination);
    command = MakePodCommand(pod, MakeVolumes(api_, pod, options_.state, own), names);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  command.env["ANNEAL_TERMINATION_MESSAGE_PATH"] = termination;
  const std::string now = kube::FormatTime(clock_.Now());
  if (!problem.empty() || command.args.empty()) {
    const Json ended = {{"exitCode", 128}, {"reason", "StartError"}, {"message", problem}, {"finishedAt", now}};
    api_.MergePatchStatus(resources::kPod, key.ns, key.name,
                          {{"status",
                            {{"phase", "Failed"},
                             {"reason", "StartError"},
                             {"message", problem},
                             {"containerStatuses", {{{"name", "worker"}, {"state", {{"terminated", ended}}}}}}}}});
    return;
  }
  if (command.env.count("ANNEAL_PROGRESS_PORT")) {
    api_.MergePatch(resources::kPod, key.ns, key.name,
                    {{"metadata",
                      {{"annotations",
                        {{"anneal.dev/progress-url", "http://127.0.0.1:" + std::to_string(names.progress_port)}}}}}});
  }
  // Everything that allocates is done before the fork.
  std::map<std::string, std::string> environment;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (const size_t equals = text.find('='); equals != std::string::npos)
      environment[text.substr(0, equals)] = text.substr(equals + 1);
  }
  for (const auto& [name, value] : command.env) environment[name] = value;
  std::vector<std::string> texts;
  for (const auto& [name, value] : environment) texts.push_back(name + "=" + value);
  std::vector<char*> argv, envp;
  for (std::string& arg : command.args) argv.push_back(arg.data());
  for (std::string& text : texts) envp.push_back(text.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(137);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execvpe(argv[0], argv.data(), envp.data());
    const char* text = std::strerror(errno);
    const ssize_t ignored = ::write(STDERR_FILENO, text, std::strlen(text));
    (void)ignored;
    ::_exit(127);
  }
  ::close(out);
  if (pid < 0) return;  // tried again at the next look
  ::setpgid(pid, pid);
  processes_[key] = {pid, metadata["uid"], termination, now, false, {}};
  const Json state = {{"running", {{"startedAt", now}}}};
  api_.MergePatchStatus(resources::kPod, key.ns, key.name,
                        {{"status",
                          {{"phase", "Running"},
                           {"startTime", now},
                           {"podIP", "127.0.0.1"},
                           {"containerStatuses", {{{"name", "worker"}, {"ready", true}, {"state", state}}}}}}});
}

void ProcessRunner::Reap() {
  for (auto entry = processes_.begin(); entry != processes_.end();) {
    Process& process = entry->second;
    int status = 0;
    const pid_t ended = ::waitpid(process.pid, &status, WNOHANG);
    if (ended == process.pid) {
      ::kill(-process.pid, SIGKILL);  // whatever the worker left behind
      const Key key = entry->first;
      const Process finished = process;
      entry = processes_.erase(entry);
      Finish(key, finished, status);
      continue;
    }
    if (process.asked_to_stop && std::chrono::steady_clock::now() >= process.kill_at) ::kill(-process.pid, SIGKILL);
    ++entry;
  }
}

void ProcessRunner::Finish(const Key& key, const Process& process, int wait_status) {
  const int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
  std::string message = ReadFile(process.termination_path, 4096);
  if (message.empty() && code != 0) message = LastLines(LogPath(options_.state, key.ns, key.name), 2048);
  const Json ended = {{"exitCode", code},
                      {"reason", code == 0 ? "Completed" : "Error"},
                      {"message", message},
                      {"startedAt", process.started_at},
                      {"finishedAt", kube::FormatTime(clock_.Now())}};
  try {
    api_.MergePatchStatus(
        resources::kPod, key.ns, key.name,
        {{"status",
          {{"phase", code == 0 ? "Succeeded" : "Failed"},
           {"containerStatuses", {{{"name", "worker"}, {"ready", false}, {"state", {{"terminated", ended}}}}}}}}});
  } catch (const ApiError& error) {
    if (!error.not_found()) throw;
  }
}

// SIGTERM, the grace period, SIGKILL; the object goes when the process has.
void ProcessRunner::StopPod(const Key& key, const Json& pod) {
  const auto found = processes_.find(key);
  if (found == processes_.end() || found->second.uid != pod["metadata"]["uid"]) {
    kube::Preconditions same;
    same.uid = pod["metadata"]["uid"].get<std::string>();
    try {
      api_.Delete(resources::kPod, key.ns, key.name, same, 0);
    } catch (const ApiError& error) {
      if (!error.not_found() && !error.conflict()) throw;
    }
    return;
  }
  Process& process = found->second;
  if (process.asked_to_stop) return;
  process.asked_to_stop = true;
  const int64_t grace = pod["metadata"].value("deletionGracePeriodSeconds", int64_t{30});
  process.kill_at = std::chrono::steady_clock::now() + std::chrono::seconds(grace);
  ::kill(-process.pid, SIGTERM);
}

}  // namespace anneal::local
