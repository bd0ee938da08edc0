// The checkpoints of a run: when one is due, writing it, keeping the newest ones (parity/train.md 3, 5).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch_stream.h"
#include "worker/dist/process_group.h"
#include "worker/eval/best_result.h"
#include "worker/train/learner.h"

namespace anneal::train {

/// After a step: every save_checkpoints_steps, unless epochs are counted.
bool StepCheckpointDue(const tzrec::protos::TrainConfig& config, int64_t step);
/// At the end of pass `epoch` (0-based): every save_checkpoints_epochs.
bool EpochCheckpointDue(const tzrec::protos::TrainConfig& config, int64_t step, int64_t epoch);

/// How far the data has been read.
struct ReadingPosition {
  data::StreamPosition data;  ///< its pass is the number of passes that have ended, its rows are those of this rank
  std::optional<int64_t> event_time;  ///< that the ranks had reached by the last save (event_time_saves.h)
  bool due_by_event_time = false;     ///< that save was: an evaluation of it belongs to the run
};

/// A checkpoint's reading position. Throws DataError naming the file, and the key, when it is not what Begin wrote.
ReadingPosition ReadPosition(const checkpoint::Reader& reader);

/// A checkpoint is written by a thread of its own while training goes on: Begin freezes the state, Finish makes the
/// checkpoint exist. One is in work at a time.
class RunCheckpoints {
 public:
  RunCheckpoints(const tzrec::protos::EasyRecConfig& config, const dist::Topology& topology, dist::ProcessGroup& group,
                 Learner& learner, int64_t last_saved_step);

  ~RunCheckpoints();

  /// Collective. Finishes the save before this one. `files`: name and text of further files.
  void Begin(int64_t step, const ReadingPosition& position, std::map<std::string, std::string> files);
  /// This rank's part of the save in work is on the disk, or could not be written.
  bool written() const { return written_; }
  /// Collective. Waits for every rank's part and removes checkpoints beyond keep_checkpoint_max. False when it could
  /// not be written: the run goes on, an older checkpoint is there and the next save may work. True without a save in
  /// work.
  bool Finish();
  /// Collective. A step is saved once; a later boundary only brings the reading position and the pass count up to date.
  void RewritePosition(const ReadingPosition& position);

  /// The best checkpoint so far, where export_config.exporter_type asks for it: it is not removed, however old it is.
  std::optional<BestCheckpoint> Best() const;

  int64_t last_begun_step() const { return last_begun_step_; }
  int64_t last_saved_step() const { return last_saved_step_; }
  const std::string& last_path() const { return last_path_; }

 private:
  std::string DataloaderState(const ReadingPosition& position);
  void Attempt(const std::function<void()>& action);

  const tzrec::protos::EasyRecConfig& config_;
  const dist::Topology topology_;
  dist::ProcessGroup& group_;
  Learner& learner_;
  int64_t last_begun_step_, last_saved_step_;
  std::string last_path_;

  /// The save in work.
  struct Work {
    checkpoint::Contents contents;
    checkpoint::Saving saving;
    std::string problem;
    std::thread thread;
  };
  std::unique_ptr<Work> work_;
  std::atomic<bool> written_{false};
};

}  // namespace anneal::train
