// Numbers in environment variables.
#pragma once

namespace anneal::config {

/// The variable's number; `fallback` when it is unset or empty. Throws ConfigError naming it for anything but a number
/// from `least` to `most`.
int EnvironmentInt(const char* name, int fallback, int least, int most);
double EnvironmentNumber(const char* name, double fallback, double least, double most);

}  // namespace anneal::config
