// The training loop: passes, steps, schedules, logging, checkpoints, evaluation (parity/train.md 2-7).
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch_stream.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/eval/evaluator.h"
#include "worker/models/network.h"
#include "worker/optim/dense_optimizer.h"
#include "worker/optim/schedule.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/engine.h"
#include "worker/train/progress/console_progress.h"
#include "worker/train/progress/progress.h"
#include "worker/train/summary/event_writer.h"
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
  /// What the pod's status keeps.
  const TerminationMessage& message() const { return message_; }

 private:
  void Restore(const TrainOptions& options);
  void TakeTrainState(const checkpoint::Reader& reader);
  std::map<std::string, int64_t> TakePosition(const checkpoint::Reader& reader);
  void OpenStreams(const std::map<std::string, int64_t>& position);
  void WriteRunFiles();

  bool RunPass(int64_t epoch);
  void AfterStep(const StepResult& result, int64_t epoch);
  void LogStep(const models::Losses& losses, double sparse_rate, double dense_rate, int64_t epoch);
  models::Losses MeanLosses(const models::Losses& losses);
  void SaveAndEvaluate(int64_t epoch);
  bool Save(int64_t epochs_completed);
  void RewritePosition(int64_t epochs_completed);
  void EvaluateNow(int64_t epoch);
  bool StepCheckpointDue() const;
  bool EpochCheckpointDue(int64_t epoch) const;
  std::string DataloaderState(int64_t epochs_completed);
  void Report(int64_t epoch);
  bool leader() const { return topology_.rank == 0; }

  const tzrec::protos::EasyRecConfig config_;
  const dist::Topology topology_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<dist::ProcessGroup> group_;
  features::FeatureSet features_;
  models::Network network_;
  std::unique_ptr<embedding::ShardedEmbedding> tables_;
  std::unique_ptr<optim::DenseOptimizer> dense_optimizer_;
  std::unique_ptr<Engine> engine_;
  optim::Schedule sparse_schedule_, dense_schedule_;
  std::unique_ptr<data::BatchStream> stream_, eval_stream_;
  std::unique_ptr<EventWriter> events_, eval_events_;
  ProgressServer server_;
  Progress progress_;
  TerminationMessage message_;
  std::unique_ptr<ConsoleProgress> console_;

  std::string model_dir_;
  int64_t num_steps_ = 0, num_epochs_ = 0;
  int64_t step_ = 0;             ///< the step to run next
  int64_t schedule_steps_ = 0;        ///< steps of per-step schedules made
  int64_t epoch_schedule_steps_ = 0;  ///< steps of per-epoch schedules made
  double sparse_rate_ = 0, dense_rate_ = 0;  ///< of the current step
  bool evaluated_ = false;            ///< the evaluation data has been read before
  int64_t epochs_completed_ = 0; ///< passes made, as the checkpoint has it
  int64_t last_saved_step_ = -1;
  int64_t last_logged_step_ = -1;
  std::map<std::string, int64_t> position_;  ///< consumed rows per source, of this rank
  models::Losses last_losses_;
  int64_t rows_since_report_ = 0;
  std::chrono::steady_clock::time_point last_report_ = std::chrono::steady_clock::now();
};

}  // namespace anneal::train
