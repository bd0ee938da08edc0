// The batches of one rank, read ahead by reader threads: what the trainer, the evaluator and predict loop over.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/features/feature_set.h"

namespace anneal::data {

enum class Mode { kTrain, kEval, kPredict };  // an export reads as kPredict

struct StreamOptions {
  std::string input_path;  ///< comma list of globs
  Mode mode = Mode::kTrain;
  int rank = 0;
  int world_size = 1;
  std::optional<int64_t> batch_size;  ///< default: data_config's, by mode (eval_batch_size outside training)
  std::optional<int> num_workers;     ///< default: data_config.num_workers; 0 reads with one thread, too
  uint64_t seed = 0;                  ///< of shuffling
  /// Predict: columns to pass through. ["ALL_COLUMNS"] is the whole file, ["ALL_EFFECTIVE_COLUMNS"] what is read.
  std::vector<std::string> reserved_columns;
  /// Reading position of a checkpoint (Batch::position merged by maximum over batches and ranks, and with the position
  /// resumed from). The first pass reads what it leaves; all later passes read everything. Parquet only.
  std::map<std::string, int64_t> resume;
  /// Reads the events' times, integers in Unix seconds, from the column of that name where the files have it.
  bool event_times = false;
};

inline constexpr const char* kEventTimeColumn = "__data_timestamp__";

/// Threads start reading when the stream is made. Batches come in a fixed order: one of each worker in turn, workers
/// that ended are left out; with one worker that is the order of the files.
///
/// Batch::position of a batch holds only the rows of that batch.
class BatchStream {
 public:
  /// Opens the input and compiles the features. `config` and `features` are not needed afterwards. Throws ConfigError
  /// (also for a data_config option that is not supported yet) and DataError.
  BatchStream(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
              const StreamOptions& options);
  /// Stops and joins the reader threads, whatever they are doing.
  ~BatchStream();

  /// The next batch, at least one row; null at the end of the pass. Rethrows what went wrong in a reader thread, in
  /// the place of the batch it could not make.
  std::unique_ptr<Batch> Next();

  /// Starts the next pass over all rows; what is left of this one is dropped.
  void Rewind();

  /// Gives a batch's buffers back for another one. Without it every batch is allocated anew.
  void Recycle(std::unique_ptr<Batch> batch);

  double wait_seconds() const;  ///< time that Next() was blocked, over all passes
  int64_t batch_size() const;
  int workers() const;  ///< reader threads; CSV may have lowered num_workers
  bool has_event_times() const;
  int64_t total_rows() const;  ///< of one full pass over all ranks; -1 when unknown (CSV)

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace anneal::data
