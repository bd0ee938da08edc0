// `anneal train`: TorchEasyRec's train_eval (parity/train.md 1-9).
#pragma once

#include <string>

#include "worker/io/publish.h"

namespace anneal::train {

/// The command line; names and defaults are tzrec.train_eval's (parity/train.md 20).
struct TrainOptions {
  std::string pipeline_config_path;
  std::string model_dir, train_input_path, eval_input_path, fine_tune_checkpoint, edit_config_json;
  bool continue_train = false;
  bool ignore_restore_optimizer = false;
  std::string sharding_plan;  ///< Anneal's own: a plan file instead of the planner
  io::Destination upload;     ///< Anneal's own: where the last checkpoint is published when the run has finished
};

/// Trains and evaluates. Returns the exit code (0, or 143 after SIGTERM and a checkpoint); throws Error otherwise.
int RunTrain(const TrainOptions& options);

}  // namespace anneal::train
