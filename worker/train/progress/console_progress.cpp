#include "worker/train/progress/console_progress.h"

#include <cstdio>

#include "worker/train/progress/log.h"

namespace anneal::train {

ConsoleProgress::ConsoleProgress(bool enabled, int64_t start, int64_t least_growth)
    : enabled_(enabled), last_count_(start), least_growth_(least_growth), last_time_(std::chrono::steady_clock::now()) {}

bool ConsoleProgress::Due(int64_t count) const {
  return enabled_ && count - last_count_ >= least_growth_ &&
         std::chrono::steady_clock::now() - last_time_ > std::chrono::seconds(1);
}

void ConsoleProgress::Print(const std::string& description, int64_t count, const std::string& suffix) {
  if (!enabled_) return;
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - last_time_).count();
  rate_ = seconds > 0 ? static_cast<double>(count - last_count_) / seconds : 0;
  char rate[64];
  std::snprintf(rate, sizeof rate, "%.2f", rate_);
  LogLive(description + ": " + std::to_string(count) + "it [" + rate + "it/s] " + suffix);
  last_count_ = count;
  last_time_ = now;
}

}  // namespace anneal::train
