// train_config.delta_embedding_dump_config: every so many steps or minutes, and at the end of training, the rows that
// training steps looked up since the last dump, with their values (parity/train.md 18).
//
//   <dir>/<prefix>_step_<N>.parquet                              one rank
//   <dir>/step_<N>/<prefix>_step_<N>_rank_<r>_of_<w>.parquet     several; a row is in one of them
//
// What was looked up and not yet dumped goes into checkpoints, so that no row is lost over a kill, on any number of
// ranks. A dump that cannot be written is an error in the log: its rows stay for the next one.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/dist/process_group.h"
#include "worker/embedding/row_collector.h"
#include "worker/embedding/touched_rows.h"
#include "worker/features/feature_set.h"
#include "worker/train/checkpoint/checkpoint.h"
#include "worker/train/delta/delta_file.h"

namespace anneal::train {

class DeltaDump {
 public:
  /// The config has a delta_embedding_dump_config. Throws ConfigError for a quantised table of odd width.
  DeltaDump(const tzrec::protos::EasyRecConfig& config, const features::FeatureSet& features,
            const models::EmbeddingPlan& plan, embedding::ShardedEmbedding& tables, dist::ProcessGroup& group);

  /// A training step looked these rows up.
  void Touch(const data::Batch& batch) { touched_.Add(batch); }

  /// By this rank's clock dump_interval_minutes are over. One rank's word is enough, see StepResult::dump_asked.
  bool MinutesOver() const;
  /// After a step, before its checkpoint.
  bool Due(int64_t step, bool asked) const;

  /// Writes what was looked up; nothing when that is no row. Collective. False when some rank could not.
  bool Dump(int64_t step);

  /// Name and text of a checkpoint's file of what is not yet dumped. Collective.
  static constexpr const char* kFile = "delta_embedding_rows.json";
  std::string State();
  /// The same from a checkpoint; one without it has nothing.
  void Restore(const checkpoint::Reader& reader);

 private:
  bool quantized() const { return config_.quant_type() == tzrec::protos::DELTA_EMBEDDING_QUANT_INT8; }
  std::chrono::minutes interval() const { return std::chrono::minutes(config_.dump_interval_minutes()); }
  std::string PathOf(int64_t step) const;
  DeltaFile Collect(int64_t step);

  const tzrec::protos::DeltaEmbeddingDumpConfig config_;
  const models::EmbeddingPlan& plan_;
  dist::ProcessGroup& group_;
  embedding::TouchedRows touched_;
  embedding::RowCollector collector_;
  std::string folder_;
  std::vector<std::string> feature_names_;      ///< per table of the plan
  std::chrono::steady_clock::time_point next_;  ///< end of the minutes now running
};

}  // namespace anneal::train
