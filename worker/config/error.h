// The one way to fail, and the exit codes that operator and worker share.
#pragma once

#include <stdexcept>
#include <string>

namespace anneal {

/// Exit codes of a worker process: the contract with the operator's failure policy (docs/architecture.md).
enum class ExitCode : int {
  kDone = 0,
  kInternal = 1,      ///< a bug of ours: anything that is not one of the below
  kConfig = 64,       ///< the configuration or the command line is wrong; never retried
  kTemporary = 75,    ///< may go away by itself (full disk, unreachable storage)
  kPeer = 76,         ///< another rank or a collective failed: not this rank's fault
  kData = 78,         ///< an input file is wrong; never retried
  kTerminated = 143,  ///< stopped by SIGTERM after a checkpoint was written
};

/// Base of every error a user can act on. The message names the field, file and line; main() prints it and exits
/// with code().
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// A fault of pipeline.config, a manifest or the command line.
class ConfigError : public Error {
 public:
  explicit ConfigError(const std::string& message) : Error(ExitCode::kConfig, message) {}
};

/// A fault of an input file; the message names file, row (1-based) and column.
class DataError : public Error {
 public:
  explicit DataError(const std::string& message) : Error(ExitCode::kData, message) {}
};

/// A fault of the machine that may pass: disk full, storage unreachable.
class TemporaryError : public Error {
 public:
  explicit TemporaryError(const std::string& message) : Error(ExitCode::kTemporary, message) {}
};

/// Another rank died or a collective timed out.
class PeerError : public Error {
 public:
  explicit PeerError(const std::string& message) : Error(ExitCode::kPeer, message) {}
};

}  // namespace anneal
