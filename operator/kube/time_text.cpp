#include <cstdio>
#include <ctime>

#include "operator/kube/reconciler.h"

namespace anneal::kube {

std::string FormatTime(Clock::Time time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::optional<Clock::Time> ParseTime(const std::string& text) {
  std::tm parts{};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (!end) return std::nullopt;
  if (*end == '.') {  // fractions of a second are legal and ignored
    for (++end; *end >= '0' && *end <= '9';) ++end;
  }
  if (*end != 'Z' || end[1] != 0) return std::nullopt;
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

}  // namespace anneal::kube
