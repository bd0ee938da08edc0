#include "worker/train/progress/log.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <mutex>

namespace anneal {
namespace {

enum Level { kDebug, kInfo, kWarning, kError };

Level LeastLevel() {
  static const Level level = [] {
    const char* text = std::getenv("LOG_LEVEL");
    const std::string name = text ? text : "";
    return name == "DEBUG" ? kDebug : name == "WARNING" ? kWarning : name == "ERROR" ? kError : kInfo;
  }();
  return level;
}

std::mutex& Mutex() {
  static std::mutex mutex;
  return mutex;
}

bool live_line = false;  // a live line is on the terminal; guarded by Mutex()

void Put(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data() + at, text.size() - at);
    if (written <= 0) return;  // nobody listens: nothing to be done about it
    at += static_cast<size_t>(written);
  }
}

std::string Prefix(const char* level) {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[64];
  const size_t length = std::strftime(text, sizeof text, "[%Y-%m-%d %H:%M:%S", &parts);
  const int milliseconds =
      static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000);
  std::snprintf(text + length, sizeof text - length, ",%03d]", milliseconds);
  return std::string(text) + "[" + level + "] ";
}

void Log(Level level, const char* name, const std::string& text) {
  if (level < LeastLevel()) return;
  const std::lock_guard lock(Mutex());
  Put((live_line ? "\r\033[K" : "") + Prefix(name) + text + "\n");
  live_line = false;
}

}  // namespace

void LogInfo(const std::string& text) { Log(kInfo, "INFO", text); }
void LogWarning(const std::string& text) { Log(kWarning, "WARNING", text); }
void LogError(const std::string& text) { Log(kError, "ERROR", text); }

void LogLive(const std::string& text) {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  if (!terminal) {
    if (!text.empty()) LogInfo(text);
    return;
  }
  if (LeastLevel() > kInfo) return;
  const std::lock_guard lock(Mutex());
  if (text.empty()) {
    if (live_line) Put("\n");
    live_line = false;
    return;
  }
  Put("\r\033[K" + Prefix("INFO") + text);
  live_line = true;
}

}  // namespace anneal
