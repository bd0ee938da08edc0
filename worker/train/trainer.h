// The training loop: passes, steps, schedules, logging, checkpoints, evaluation (parity/train.md 2-7).
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch_stream.h"
#include "worker/dist/process_group.h"
#include "worker/eval/evaluator.h"
#include "worker/train/delta/delta_dump.h"
#include "worker/train/event_time_saves.h"
#include "worker/train/learner.h"
#include "worker/train/profiler.h"
#include "worker/train/progress/progress.h"
#include "worker/train/run_checkpoints.h"
#include "worker/train/step_log.h"
#include "worker/train/train.h"

namespace anneal::train {

/// How the loop ended.
enum class Outcome { kFinished, kTerminated };

class Trainer {
 public:
  /// Builds everything from the effective config and restores what the start rules say (parity/train.md 4).
  Trainer(const TrainOptions& options, const tzrec::protos::EasyRecConfig& config, const dist::Topology& topology,
          const std::atomic<bool>& stop);

  Outcome Run();
  /// From now on only files travel: no step will be made.
  void ReportUpload();
  /// What the pod's status keeps.
  const TerminationMessage& message() const { return message_; }

 private:
  void OpenStreams();
  void TellOfInexactResume();
  void WriteRunFiles();

  Outcome Train();
  bool RunPass(int64_t epoch);
  bool CheckpointDue(int64_t step);
  void AfterStep(const StepResult& result, int64_t epoch);
  void LogStep(const models::Losses& losses, int64_t epoch, bool last = false);
  models::Losses MeanLosses(const models::Losses& losses);
  void SaveAndEvaluate(int64_t epoch);
  void BeginSave();
  bool FinishSave();
  bool LastDump() { return !delta_ || delta_->Dump(step_ - 1); }
  void EvaluateNow(int64_t epoch);
  void EvaluateWhatWasNot();
  void Report(int64_t epoch);
  void ReportBest();
  bool leader() const { return topology_.rank == 0; }

  const tzrec::protos::EasyRecConfig config_;
  const dist::Topology topology_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<dist::ProcessGroup> group_;
  features::FeatureSet features_;
  std::unique_ptr<checkpoint::FolderLock> lock_;  ///< of model_dir
  std::unique_ptr<Learner> learner_;
  std::unique_ptr<DeltaDump> delta_;           ///< null: not configured
  std::optional<EventTimeSaves> event_saves_;  ///< none: not configured
  std::unique_ptr<RunCheckpoints> checkpoints_;
  std::unique_ptr<data::BatchStream> stream_, eval_stream_;
  std::unique_ptr<StepLog> log_;
  std::unique_ptr<EventWriter> eval_events_;
  StepProfiler profiler_;
  ProgressServer server_;
  Progress progress_;
  TerminationMessage message_;

  int64_t num_steps_ = 0, num_epochs_ = 0;
  int64_t step_ = 0;        ///< the step to run next
  int64_t first_step_ = 0;  ///< of this life
  Rates rates_;             ///< of the current step
  bool resumed_ = false;    ///< from a checkpoint of this model_dir
  bool evaluated_ = false;  ///< the evaluation data has been read before
  int64_t last_logged_step_ = -1;
  ReadingPosition position_;
  int64_t newest_event_ = -1;                          ///< of this rank's last batch, see data::Batch
  bool told_of_loss_ = false, told_of_event_ = false;  ///< a warning comes once
  models::Losses last_losses_;
  int64_t rows_since_report_ = 0;
  std::chrono::steady_clock::time_point last_report_ = std::chrono::steady_clock::now();
};

}  // namespace anneal::train
