// The checkpoints of a run: when one is due, writing it, keeping the newest ones (parity/train.md 3, 5).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/dist/process_group.h"
#include "worker/train/learner.h"

namespace anneal::train {

/// After a step: every save_checkpoints_steps, unless epochs are counted.
bool StepCheckpointDue(const tzrec::protos::TrainConfig& config, int64_t step);
/// At the end of pass `epoch` (0-based): every save_checkpoints_epochs.
bool EpochCheckpointDue(const tzrec::protos::TrainConfig& config, int64_t step, int64_t epoch);

/// How far the data has been read.
struct ReadingPosition {
  std::map<std::string, int64_t> rows;  ///< largest consumed row per source, of this rank
  int64_t epochs_completed = 0;
};

/// A checkpoint's reading position. Throws DataError when the file is no JSON object.
ReadingPosition ReadPosition(const checkpoint::Reader& reader);

class RunCheckpoints {
 public:
  RunCheckpoints(const tzrec::protos::EasyRecConfig& config, const dist::Topology& topology, dist::ProcessGroup& group,
                 Learner& learner, int64_t last_saved_step);

  /// Collective. False when it could not be written: the run goes on, an older checkpoint is there and the next save
  /// may work. Removes checkpoints beyond keep_checkpoint_max.
  bool Save(int64_t step, const ReadingPosition& position);
  /// Collective. A step is saved once; a later boundary only brings the reading position and the pass count up to date.
  void RewritePosition(const ReadingPosition& position);

  int64_t last_saved_step() const { return last_saved_step_; }
  const std::string& last_path() const { return last_path_; }

 private:
  std::string DataloaderState(const ReadingPosition& position);

  const tzrec::protos::EasyRecConfig& config_;
  const dist::Topology topology_;
  dist::ProcessGroup& group_;
  Learner& learner_;
  int64_t last_saved_step_;
  std::string last_path_;
};

}  // namespace anneal::train
