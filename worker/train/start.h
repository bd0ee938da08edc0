// Where a run starts (parity/train.md 4): the newest checkpoint of model_dir when training is continued, else the
// fine-tune checkpoint, else nowhere. Numbering goes on only after a checkpoint of model_dir.
#pragma once

#include <memory>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/dist/process_group.h"
#include "worker/eval/model_state.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/checkpoint/files.h"
#include "worker/train/train.h"

namespace anneal::train {

struct StartPoint {
  std::unique_ptr<checkpoint::FolderLock> lock;    ///< of model_dir, on rank 0
  std::unique_ptr<checkpoint::Reader> checkpoint;  ///< null: fresh
  bool resume = false;                             ///< a checkpoint of model_dir: step and positions go on
  int64_t last_step = -1;                          ///< of that checkpoint
  eval::NameMap names;                             ///< fine_tune_ckpt_param_map
};

/// A collective: every rank takes the checkpoint that rank 0 found. Removes what a killed run left half written.
/// Throws ConfigError when model_dir has a checkpoint and training is not continued, or the fine-tune checkpoint does
/// not exist; DataError when none of model_dir's checkpoints can be read: training from the start would replace what
/// can perhaps be mended; TemporaryError when another process trains in model_dir.
StartPoint FindStart(const TrainOptions& options, const tzrec::protos::EasyRecConfig& config,
                     dist::ProcessGroup& group);

}  // namespace anneal::train
