// Log lines in TorchEasyRec's form: "[2026-11-24 10:00:00,123][INFO] text" on stderr. LOG_LEVEL sets the least level
// (DEBUG, INFO, WARNING, ERROR; default INFO). Thread safe; a line is written whole.
#pragma once

#include <string>

namespace anneal {

void LogInfo(const std::string& text);
void LogWarning(const std::string& text);
void LogError(const std::string& text);

/// A line that replaces itself on a terminal, a plain log line otherwise. An empty text ends the live line.
void LogLive(const std::string& text);

}  // namespace anneal
