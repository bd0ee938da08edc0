#include "worker/dist/launcher.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <thread>

#include "worker/config/cpus.h"
#include "worker/config/environment.h"
#include "worker/config/error.h"

extern char** environ;

namespace anneal::dist {
namespace {

using Steady = std::chrono::steady_clock;

constexpr size_t kKeptLines = 20;
constexpr auto kGrace = std::chrono::seconds(10);

volatile sig_atomic_t pending_signal = 0;

struct Child {
  int rank = 0;
  pid_t pid = 0;
  int output = -1;  ///< read end of its stdout and stderr
  std::string partial;
  std::deque<std::string> last_lines;
  bool running = true;
  int code = 0;
  Steady::time_point ended{};
};

int FreePort() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int port = 29500;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port = ntohs(address.sin_port);
  }
  ::close(fd);
  return port;
}

void PutLine(const std::string& line) {
  size_t at = 0;
  while (at < line.size()) {
    const ssize_t written = ::write(STDERR_FILENO, line.data() + at, line.size() - at);
    if (written <= 0) return;
    at += static_cast<size_t>(written);
  }
}

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> all;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (const size_t equals = text.find('='); equals != std::string::npos)
      all[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return all;
}

Child Start(const LaunchOptions& options, int local_rank, int port, bool pipe_output) {
  Child child;
  const int world = options.nnodes * options.nproc_per_node;
  child.rank = options.node_rank * options.nproc_per_node + local_rank;
  auto environment = Environment();
  environment["RANK"] = std::to_string(child.rank);
  environment["LOCAL_RANK"] = std::to_string(local_rank);
  environment["WORLD_SIZE"] = std::to_string(world);
  environment["LOCAL_WORLD_SIZE"] = std::to_string(options.nproc_per_node);
  environment["GROUP_RANK"] = std::to_string(options.node_rank);
  environment["MASTER_ADDR"] = options.master_addr;
  environment["MASTER_PORT"] = std::to_string(port);
  // Without this every process would take all cores, and OpenMP's spinning threads stand in each other's way.
  const int threads = std::max(1, config::AvailableCpus() / options.nproc_per_node);
  environment.try_emplace("OMP_NUM_THREADS", std::to_string(threads));
  environment.try_emplace("OMP_WAIT_POLICY", "passive");
  std::vector<std::string> words{options.program}, texts;
  words.insert(words.end(), options.command.begin(), options.command.end());
  for (const auto& [name, value] : environment) texts.push_back(name + "=" + value);
  std::vector<char*> argv, envp;
  for (auto& word : words) argv.push_back(word.data());
  for (auto& text : texts) envp.push_back(text.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  int ends[2] = {-1, -1};
  if (pipe_output && ::pipe2(ends, O_CLOEXEC) != 0)
    throw TemporaryError(std::string("cannot make a pipe: ") + std::strerror(errno));
  const pid_t parent = ::getpid();
  child.pid = ::fork();
  if (child.pid < 0) throw TemporaryError(std::string("cannot start a process: ") + std::strerror(errno));
  if (child.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(137);
    if (pipe_output) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::dup2(ends[1], STDERR_FILENO);
    }
    ::signal(SIGTERM, SIG_DFL);
    ::signal(SIGINT, SIG_DFL);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  if (pipe_output) {
    ::close(ends[1]);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    child.output = ends[0];
  }
  return child;
}

/// Reads what a child printed and passes whole lines on.
void Drain(Child& child) {
  if (child.output < 0) return;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(child.output, buffer, sizeof buffer);
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
      ::close(child.output);
      child.output = -1;
      if (!child.partial.empty()) child.partial += '\n';
    } else if (got < 0) {
      if (errno == EINTR) continue;
    } else {
      child.partial.append(buffer, static_cast<size_t>(got));
    }
    for (size_t end; (end = child.partial.find('\n')) != std::string::npos;) {
      const std::string line = child.partial.substr(0, end + 1);
      child.partial.erase(0, end + 1);
      PutLine("[rank " + std::to_string(child.rank) + "] " + line);
      child.last_lines.push_back(line);
      if (child.last_lines.size() > kKeptLines) child.last_lines.pop_front();
    }
    if (got <= 0) return;
  }
}

void Signal(const std::vector<Child>& children, int number) {
  for (const Child& child : children) {
    if (child.running) ::kill(child.pid, number);
  }
}

/// The first to end with a code of its own; "a peer failed" and being stopped by us are nobody's own.
const Child* Blame(const std::vector<Child>& children) {
  const Child* blamed = nullptr;
  auto weight = [](const Child& child) {
    return child.code == static_cast<int>(ExitCode::kPeer) || child.code == static_cast<int>(ExitCode::kTerminated) ||
           child.code == 128 + SIGKILL;
  };
  for (const Child& child : children) {
    if (child.code == 0) continue;
    if (!blamed || std::make_pair(weight(child), child.ended) < std::make_pair(weight(*blamed), blamed->ended))
      blamed = &child;
  }
  return blamed;
}

}  // namespace

LaunchOptions LaunchDefaults() {
  LaunchOptions options;
  options.nnodes = config::EnvironmentInt("NNODES", 1, 0, 1 << 20);
  options.node_rank = config::EnvironmentInt("NODE_RANK", 0, 0, 1 << 20);
  options.master_port = config::EnvironmentInt("MASTER_PORT", 0, 0, 1 << 20);
  if (const char* address = std::getenv("MASTER_ADDR"); address && *address) options.master_addr = address;
  return options;
}

int Launch(const LaunchOptions& given) {
  LaunchOptions options = given;
  if (options.nnodes < 1 || options.nproc_per_node < 1)
    throw ConfigError("launch: --nnodes and --nproc-per-node must be at least 1");
  if (options.node_rank < 0 || options.node_rank >= options.nnodes)
    throw ConfigError("launch: --node-rank must be from 0 to --nnodes - 1");
  if (options.command.empty()) throw ConfigError("launch: nothing to run; put the command behind --");
  if (options.nnodes > 1 && options.master_port == 0) throw ConfigError("launch: several nodes need --master-port");
  if (options.program.empty()) options.program = "/proc/self/exe";
  const int port = options.master_port > 0 ? options.master_port : FreePort();
  const bool several = options.nnodes * options.nproc_per_node > 1;

  struct sigaction action {};
  action.sa_handler = [](int number) { pending_signal = number; };
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  std::vector<Child> children;
  for (int i = 0; i < options.nproc_per_node; ++i) children.push_back(Start(options, i, port, several));

  bool stopping = false;
  Steady::time_point kill_at = Steady::time_point::max();
  size_t running = children.size();
  while (running > 0) {
    std::vector<pollfd> polls;
    for (const Child& child : children) {
      if (child.output >= 0) polls.push_back({child.output, POLLIN, 0});
    }
    ::poll(polls.data(), polls.size(), 50);
    if (pending_signal) {
      Signal(children, pending_signal);  // the children decide how long their checkpoint takes
      pending_signal = 0;
    }
    for (Child& child : children) {
      Drain(child);
      int status = 0;
      if (!child.running || ::waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
      Drain(child);
      child.running = false;
      child.ended = Steady::now();
      child.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      --running;
      const bool failed = child.code != 0 && child.code != static_cast<int>(ExitCode::kTerminated);
      if (failed && !stopping && running > 0) {
        stopping = true;
        // The others may still end by themselves (code 76), which tells who is to blame.
        Signal(children, SIGTERM);
        kill_at = Steady::now() + kGrace;
      }
    }
    if (Steady::now() >= kill_at) Signal(children, SIGKILL);
  }
  const Child* blamed = Blame(children);
  if (!blamed) return 0;
  if (blamed->code != static_cast<int>(ExitCode::kTerminated) && several) {
    PutLine("launch: rank " + std::to_string(blamed->rank) + " failed with exit code " + std::to_string(blamed->code) +
            "; its last lines:\n");
    for (const std::string& line : blamed->last_lines) PutLine("  " + line);
  }
  return blamed->code;
}

}  // namespace anneal::dist
