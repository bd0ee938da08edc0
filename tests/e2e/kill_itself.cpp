/// A library for LD_PRELOAD: its process kills itself (SIGKILL) at a chosen file-system call below $KILL_BELOW, so that
/// a test's kill -9 falls where it is meant to on a machine of any pace. Events are texts of a call and paths below
/// that folder, like "write m/version.part" or "rename m/version.part m/version"; patterns are those of fnmatch(3).
///
///   KILL_BEGIN             what must have happened before
///   KILL_CALL, KILL_COUNT  then the count-th event of this pattern is the moment
///   KILL_CUT               the process dies "before" the call, in the "half" of what it writes, or "after" it,
///   KILL_DELAY             and that so many microseconds later, while all threads go on
///   KILL_END               before this call it dies in any case, so that no delay outlasts what is to be hit
///
/// Its last line on stderr says what it did: "kill_itself: <before, half, after, <n> us after or end>: <event>".
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

namespace {

std::string Setting(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

class Killer {
 public:
  static Killer& OfProcess() {
    static Killer* killer = new Killer;  // outlives the last call of the process
    return *killer;
  }

  bool Watches(const std::string& path) const { return !below_.empty() && path.starts_with(below_); }
  std::string Below(const std::string& path) const { return Watches(path) ? path.substr(below_.size()) : path; }

  /// Makes the call, or dies. `half` makes half of it.
  template <typename Call, typename Half>
  auto Pass(const std::string& event, const Call& call, const Half& half) {
    const std::lock_guard lock(mutex_);  // nothing goes on beside a kill
    const bool opened = open_;
    if (open_ && Matches(end_, event)) Die("end", event);
    const bool hit = open_ && !armed_ && Matches(call_, event) && ++seen_ == count_;
    if (hit && cut_ == "before") Die("before", event);
    if (hit && cut_ == "half") {
      half();
      Die("half", event);
    }
    const auto result = call();
    const int error = errno;
    if (hit && delay_ == 0) Die("after", event);
    if (hit) Arm(event);
    if (!opened) open_ = Matches(begin_, event);
    errno = error;
    return result;
  }

 private:
  static bool Matches(const std::string& pattern, const std::string& event) {
    return ::fnmatch(pattern.c_str(), event.c_str(), 0) == 0;
  }

  void Arm(const std::string& event) {
    armed_ = true;
    std::thread([this, event] {
      ::usleep(static_cast<useconds_t>(delay_));
      const std::lock_guard lock(mutex_);
      Die(std::to_string(delay_) + " us after", event);
    }).detach();
  }

  [[noreturn]] static void Die(const std::string& how, const std::string& event) {
    const std::string line = "\nkill_itself: " + how + ": " + event + "\n";
    [[maybe_unused]] const ssize_t told = Real<ssize_t(int, const void*, size_t)>("write")(2, line.data(), line.size());
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }

  const std::string below_ = Setting("KILL_BELOW") + "/", begin_ = Setting("KILL_BEGIN"), call_ = Setting("KILL_CALL"),
                    cut_ = Setting("KILL_CUT"), end_ = Setting("KILL_END");
  const int count_ = std::atoi(Setting("KILL_COUNT").c_str()), delay_ = std::atoi(Setting("KILL_DELAY").c_str());
  std::mutex mutex_;
  bool open_ = false, armed_ = false;
  int seen_ = 0;
};

/// Absolute path of a file descriptor; empty where it is no file.
std::string PathOf(int fd) {
  char path[PATH_MAX];
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

std::string PathAt(int folder, const char* name) {
  return name[0] == '/' || folder == AT_FDCWD ? name : PathOf(folder) + "/" + name;
}

template <typename Call>
auto OnPath(const std::string& word, const std::string& path, const Call& call) {
  Killer& killer = Killer::OfProcess();
  if (!killer.Watches(path)) return call();
  return killer.Pass(word + " " + killer.Below(path), call, [] {});
}

/// `call` gets the number of bytes to write.
template <typename Call>
ssize_t OnWrite(int fd, size_t bytes, const Call& call) {
  Killer& killer = Killer::OfProcess();
  const std::string path = PathOf(fd);
  if (!killer.Watches(path)) return call(bytes);
  return killer.Pass(
      "write " + killer.Below(path), [&] { return call(bytes); }, [&] { call(bytes / 2); });
}

mode_t ModeOf(int flags, va_list more) {
  return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(more, int)) : 0;
}

}  // namespace

extern "C" {

#define OPEN(name)                                                                          \
  int name(const char* path, int flags, ...) {                                              \
    va_list more;                                                                           \
    va_start(more, flags);                                                                  \
    const mode_t mode = ModeOf(flags, more);                                                \
    va_end(more);                                                                           \
    static auto* const real = Real<int(const char*, int, mode_t)>(#name);                   \
    return OnPath("open", PathAt(AT_FDCWD, path), [&] { return real(path, flags, mode); }); \
  }
OPEN(open)
OPEN(open64)
#undef OPEN

int openat(int folder, const char* path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  const mode_t mode = ModeOf(flags, more);
  va_end(more);
  static auto* const real = Real<int(int, const char*, int, mode_t)>("openat");
  return OnPath("open", PathAt(folder, path), [&] { return real(folder, path, flags, mode); });
}

FILE* fopen(const char* path, const char* mode) {
  static auto* const real = Real<FILE*(const char*, const char*)>("fopen");
  return OnPath("open", path, [&] { return real(path, mode); });
}

FILE* fopen64(const char* path, const char* mode) {
  static auto* const real = Real<FILE*(const char*, const char*)>("fopen64");
  return OnPath("open", path, [&] { return real(path, mode); });
}

ssize_t write(int fd, const void* data, size_t bytes) {
  static auto* const real = Real<ssize_t(int, const void*, size_t)>("write");
  return OnWrite(fd, bytes, [&](size_t part) { return real(fd, data, part); });
}

ssize_t writev(int fd, const iovec* pieces, int count) {
  static auto* const real = Real<ssize_t(int, const iovec*, int)>("writev");
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += pieces[i].iov_len;
  return OnWrite(fd, bytes, [&](size_t part) {
    if (part == bytes) return real(fd, pieces, count);
    std::string all;
    for (int i = 0; i < count; ++i) all.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
    return Real<ssize_t(int, const void*, size_t)>("write")(fd, all.data(), part);
  });
}

ssize_t pread(int fd, void* data, size_t bytes, off_t at) {
  static auto* const real = Real<ssize_t(int, void*, size_t, off_t)>("pread");
  return OnPath("read", PathOf(fd), [&] { return real(fd, data, bytes, at); });
}

ssize_t pread64(int fd, void* data, size_t bytes, off64_t at) {
  static auto* const real = Real<ssize_t(int, void*, size_t, off64_t)>("pread64");
  return OnPath("read", PathOf(fd), [&] { return real(fd, data, bytes, at); });
}

int fsync(int fd) {
  static auto* const real = Real<int(int)>("fsync");
  return OnPath("fsync", PathOf(fd), [&] { return real(fd); });
}

int mkdir(const char* path, mode_t mode) {
  static auto* const real = Real<int(const char*, mode_t)>("mkdir");
  return OnPath("mkdir", path, [&] { return real(path, mode); });
}

int rename(const char* from, const char* to) {
  static auto* const real = Real<int(const char*, const char*)>("rename");
  Killer& killer = Killer::OfProcess();
  return OnPath("rename", std::string(from) + " " + killer.Below(to), [&] { return real(from, to); });
}

int unlink(const char* path) {
  static auto* const real = Real<int(const char*)>("unlink");
  return OnPath("unlink", path, [&] { return real(path); });
}

int unlinkat(int folder, const char* path, int flags) {
  static auto* const real = Real<int(int, const char*, int)>("unlinkat");
  return OnPath("unlink", PathAt(folder, path), [&] { return real(folder, path, flags); });
}

}  // extern "C"
