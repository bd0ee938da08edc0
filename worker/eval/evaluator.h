// One pass over the evaluation data with a live or restored model (parity/train.md 14).
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "worker/data/batch_stream.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/eval/metric_set.h"
#include "worker/models/network.h"

namespace anneal::eval {

struct EvaluationSettings {
  int64_t num_steps = 0;              ///< at most so many batches; 0 = all
  int64_t log_step_count_steps = 10;  ///< progress line every so many batches
  std::string description;            ///< "Epoch-0" and "model-100" of the log lines, see Describe
  bool log = true;                    ///< local rank 0
  std::function<void(int64_t batches, int64_t rows)> progress = [](int64_t, int64_t) {};
};

/// Collective. Empty where no rank has a row. Throws what reading this rank's data throws, a DataError after the
/// evaluation of what the ranks could read: no rank is left alone in it.
Metrics Evaluate(models::Network& network, embedding::ShardedEmbedding& tables, data::BatchStream& stream,
                 dist::ProcessGroup& group, const EvaluationSettings& settings);

/// "Eval Result[ <description>]: auc:0.781200 ..." with six decimals.
std::string ResultLine(const Metrics& metrics, const std::string& description);

/// The results of the evaluations of a run.
std::string ResultPath(const std::string& model_dir);
/// Appends {"global_step": step, <metrics in ascending order>} as one line; step < 0 writes null. False: it could not
/// be written.
bool AppendResult(const std::string& path, int64_t step, const Metrics& metrics);

/// global_step of the last line that is whole; nullopt where there is none.
std::optional<int64_t> LastResultStep(const std::string& path);

}  // namespace anneal::eval
