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

/// How far a run has read.
struct StreamPosition {
  int64_t pass = 0;     ///< number of the pass: it decides the order of shuffling
  int64_t batches = 0;  ///< of the pass that every rank has asked for, those that came after a rank's end included
  int64_t order = 0;    ///< BatchStream::order() then
  /// Batch::position merged by maximum over batches and ranks, and with the position resumed from; empty at the
  /// beginning of a pass.
  std::map<std::string, int64_t> rows;
};

struct StreamOptions {
  std::string input_path;  ///< comma list of globs
  Mode mode = Mode::kTrain;
  int rank = 0;
  int world_size = 1;
  std::optional<int64_t> batch_size;  ///< default: data_config's, by mode (eval_batch_size outside training)
  std::optional<int> num_workers;     ///< default: data_config.num_workers; 0 reads with one thread, too
  uint64_t seed = 0;                  ///< of shuffling and of sampled negatives
  /// Predict: columns to pass through. ["ALL_COLUMNS"] is the whole file, ["ALL_EFFECTIVE_COLUMNS"] what is read.
  std::vector<std::string> reserved_columns;
  StreamPosition resume;  ///< where the first pass goes on
  /// Reads the events' times, integers in Unix seconds, from the column of that name where the files have it.
  bool event_times = false;
};

inline constexpr const char* kEventTimeColumn = "__data_timestamp__";

/// Threads start reading when the stream is made. Batches come in a fixed order: one of each worker in turn, workers
/// that ended are left out; with one worker that is the order of the files.
///
/// Batch::position of a batch holds only the rows of that batch.
///
/// With a negative sampler in data_config, batches of training and evaluation end with sampled items
/// (Batch::negatives), with tdm_sampler with rows of the nodes of its tree. Which ones depends on the seed, rank,
/// reader thread and number of the batch, in training on the pass, too.
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
  /// A number for what decides which rows a pass gives and when: input, ranks, workers, batches, shuffling and its
  /// seed.
  int64_t order() const;
  /// Whether what follows is what would have followed where options.resume was written, to the last row: it was written
  /// at the beginning of a pass or in the same order. Otherwise (another number of ranks, say) the first pass reads
  /// what the rows of options.resume leave (Parquet; CSV reads all): batches that shuffling held back are not among
  /// them, as in the reference.
  bool exact() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace anneal::data
