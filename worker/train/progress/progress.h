// What a running worker tells the outside: /progress (JSON) and /metrics (Prometheus) of rank 0, and the termination
// message that stays in the pod's status.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace anneal::train {

/// The checkpoint with the best evaluation so far (export_config.exporter_type "best").
struct BestCheckpoint {
  int64_t step = -1;
  std::string metric;
  double value = 0;
};

/// A snapshot of the run; numbers below 0 are unknown.
struct Progress {
  std::string phase;  ///< train | upload | eval | export | predict
  int64_t global_step = 0, total_steps = -1, epoch = 0;
  double samples_per_second = -1, eta_seconds = -1;
  double data_wait_seconds = 0;  ///< time steps waited for data so far
  int64_t samples = 0;
  std::map<std::string, double> metrics;
  int64_t checkpoint_step = -1;
  std::string checkpoint_path;
  BestCheckpoint best;
};

nlohmann::json ToJson(const Progress& progress);

/// Serves GET /progress and /metrics on 0.0.0.0:$ANNEAL_PROGRESS_PORT. Without that variable nothing is served and
/// Update() costs nothing. A port that cannot be bound is a warning, never the end of a run.
class ProgressServer {
 public:
  explicit ProgressServer(bool enabled);
  ~ProgressServer();
  void Update(const Progress& progress);

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

/// What the pod's status keeps of a run: at most 4 KiB of JSON at $ANNEAL_TERMINATION_MESSAGE_PATH, else
/// /dev/termination-log where it exists. Never fails the run.
struct TerminationMessage {
  int64_t global_step = -1;
  std::map<std::string, double> metrics;
  std::string reason, message;
  int64_t checkpoint_step = -1;
  std::string checkpoint_path;
  BestCheckpoint best;
  std::string artifact_uri, artifact_sha256;
  int64_t artifact_bytes = -1;
};
void WriteTerminationMessage(const TerminationMessage& message);

}  // namespace anneal::train
