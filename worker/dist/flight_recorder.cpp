#include "worker/dist/flight_recorder.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace anneal::dist {
namespace {

using nlohmann::json;

double Seconds(auto duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

int64_t FlightRecorder::Begin(const char* operation, int64_t step, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (entries_.size() == kept_) entries_.pop_front();
  entries_.push_back({++last_, step, bytes, operation, Clock::now(), {}, true, {}});
  return last_;
}

void FlightRecorder::End(int64_t sequence, const std::string& error) {
  const std::lock_guard lock(mutex_);
  const int64_t back = last_ - sequence;
  if (back >= static_cast<int64_t>(entries_.size())) return;  // forgotten already
  Entry& entry = entries_[entries_.size() - 1 - back];
  entry.ended = Clock::now();
  entry.open = false;
  entry.error = error;
}

json FlightRecorder::Report(int rank, int world_size, const std::string& verdict) const {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  json collectives = json::array();
  for (const Entry& entry : entries_) {
    json note{{"sequence", entry.sequence},
              {"operation", entry.operation},
              {"step", entry.step},
              {"bytes", entry.bytes},
              {"state", entry.open            ? "started"
                        : entry.error.empty() ? "completed"
                                              : "failed"},
              {"started_at", Seconds(entry.started.time_since_epoch())},
              {"seconds", Seconds((entry.open ? now : entry.ended) - entry.started)}};
    if (!entry.error.empty()) note["error"] = entry.error;
    collectives.push_back(std::move(note));
  }
  return {{"rank", rank},
          {"world_size", world_size},
          {"written_at", Seconds(now.time_since_epoch())},
          {"verdict", verdict},
          {"collectives", std::move(collectives)}};
}

std::string FlightRecorder::Write(const std::string& folder, int rank, int world_size,
                                  const std::string& verdict) const {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(folder, error);
  const fs::path path = fs::path(folder) / ("rank-" + std::to_string(rank) + ".json");
  const fs::path unfinished = path.string() + ".unfinished";
  std::ofstream out(unfinished);
  // An error text of the transport may hold any bytes.
  out << Report(rank, world_size, verdict).dump(1, ' ', false, json::error_handler_t::replace) << "\n";
  out.close();
  if (!out) return "";
  fs::rename(unfinished, path, error);
  return error ? "" : path.string();
}

}  // namespace anneal::dist
