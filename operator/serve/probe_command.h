// anneal-operator probe: asks URLs, for `helm test` and images without a shell.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace anneal::serve {

/// Asks each URL until it answers 200 and prints the answer's first line. 0: all did; 1: one did not in time, and
/// stderr says what it answered last.
int ProbeCommand(const std::vector<std::string>& urls, std::chrono::seconds timeout);

}  // namespace anneal::serve
