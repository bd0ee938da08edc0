// What a logging step leaves: the progress line and TensorBoard's summaries (parity/train.md 6-7).
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tzrec/train.pb.h"
#include "worker/dist/process_group.h"
#include "worker/train/learner.h"
#include "worker/train/progress/console_progress.h"
#include "worker/train/summary/event_writer.h"

namespace anneal::train {

class StepLog {
 public:
  /// Summaries are written by rank 0 when use_tensorboard: loss and learning_rate always, the others of
  /// tensorboard_summaries as asked. `first_step`: where the progress counter starts.
  StepLog(const tzrec::protos::TrainConfig& config, const std::string& model_dir, const dist::Topology& topology,
          Learner& learner, int64_t first_step);

  using Scalars = std::vector<std::pair<std::string, double>>;
  /// `losses` by name in the order of the model, `total` what is made small of them; `rates` those in force in that
  /// step; `metrics` the train metrics. Gradients are those left in the parameters: after unscaling and clipping, with
  /// accumulation the running sum.
  void Write(int64_t step, int64_t epoch, const Scalars& losses, double total, const Rates& rates,
             const Scalars& metrics);
  void Flush();

 private:
  void WriteParameters(int64_t step);
  void WriteGradients(int64_t step);

  Learner& learner_;
  ConsoleProgress console_;
  int rank_;
  std::set<std::string> summaries_;
  std::unique_ptr<EventWriter> events_;
};

}  // namespace anneal::train
