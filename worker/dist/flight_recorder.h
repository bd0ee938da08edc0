// The last collectives of this rank, kept in memory and written as JSON when one fails, so that a hang can be read
// afterwards: which operation, in which step, how many bytes, entered and left when.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace anneal::dist {

class FlightRecorder {
 public:
  explicit FlightRecorder(size_t kept = 256) : kept_(kept) {}

  /// A collective begins; returns its sequence number, 1 for the first. Every rank counts alike.
  int64_t Begin(const char* operation, int64_t step, int64_t bytes);
  /// That collective has ended. `error`: empty when it went well.
  void End(int64_t sequence, const std::string& error);

  /// {rank, world_size, written_at, verdict, collectives: [{sequence, operation, step, bytes, state, started_at,
  /// seconds, error}]}, oldest first; times are Unix seconds, state is "started", "completed" or "failed".
  nlohmann::json Report(int rank, int world_size, const std::string& verdict) const;

  /// Writes Report to `<folder>/rank-<rank>.json` as a whole; returns the path, or empty when it could not be written.
  std::string Write(const std::string& folder, int rank, int world_size, const std::string& verdict) const;

 private:
  using Clock = std::chrono::system_clock;
  struct Entry {
    int64_t sequence = 0, step = 0, bytes = 0;
    const char* operation = "";
    Clock::time_point started{}, ended{};
    bool open = true;
    std::string error;
  };

  const size_t kept_;
  mutable std::mutex mutex_;  // the peer monitor writes a report while a collective hangs
  std::deque<Entry> entries_;
  int64_t last_ = 0;
};

}  // namespace anneal::dist
