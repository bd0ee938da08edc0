#include "worker/export/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "worker/config/error.h"

namespace anneal::exporting {
namespace {

/// In the child of a fork: becomes the program. What it says goes into the pipe.
[[noreturn]] void Become(char* const* argv, int pipe) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(pipe, STDOUT_FILENO);
  ::dup2(pipe, STDERR_FILENO);
  ::execvp(argv[0], argv);
  const char* const message[] = {argv[0], ": ", std::strerror(errno)};
  for (const char* part : message) (void)!::write(pipe, part, std::strlen(part));
  ::_exit(127);
}

}  // namespace

ChildResult RunChild(const std::vector<std::string>& arguments) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) throw TemporaryError(std::string("cannot make a pipe: ") + std::strerror(errno));
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) Become(argv.data(), pipe[1]);
  const int failure = pid < 0 ? errno : 0;
  ::close(pipe[1]);
  ChildResult result;
  char buffer[4096];
  for (ssize_t n; failure == 0 && ((n = ::read(pipe[0], buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR));) {
    if (n > 0) result.last_lines.append(buffer, static_cast<size_t>(n));
    if (result.last_lines.size() > 8000) result.last_lines.erase(0, result.last_lines.size() - 4000);
  }
  ::close(pipe[0]);
  if (failure != 0) throw TemporaryError("cannot start " + arguments[0] + ": " + std::strerror(failure));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (result.last_lines.size() > 2000) result.last_lines.erase(0, result.last_lines.size() - 2000);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace anneal::exporting
