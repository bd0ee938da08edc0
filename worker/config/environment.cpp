#include "worker/config/environment.h"

#include <cstdlib>
#include <string>

#include "worker/config/error.h"

namespace anneal::config {
namespace {

template <typename Number>
Number Read(const char* name, Number fallback, Number least, Number most, Number (*parse)(const char*, char**)) {
  const char* text = std::getenv(name);
  if (!text || !*text) return fallback;
  char* end = nullptr;
  const Number value = parse(text, &end);
  if (*end || !(value >= least && value <= most)) {
    throw ConfigError(std::string("environment variable ") + name + "='" + text + "' must be a number from " +
                      std::to_string(least) + " to " + std::to_string(most));
  }
  return value;
}

long Decimal(const char* text, char** end) { return std::strtol(text, end, 10); }

}  // namespace

int EnvironmentInt(const char* name, int fallback, int least, int most) {
  return static_cast<int>(Read<long>(name, fallback, least, most, Decimal));
}

double EnvironmentNumber(const char* name, double fallback, double least, double most) {
  return Read<double>(name, fallback, least, most, std::strtod);
}

}  // namespace anneal::config
