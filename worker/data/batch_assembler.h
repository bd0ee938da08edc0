// Rows in, a whole batch out: features, labels, sample weights, reading position, reserved columns.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "worker/data/aligned_sequences.h"
#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/features/feature_program.h"

namespace anneal::data {

/// What to put into a batch besides the features. All names are columns of the schema.
struct BatchColumns {
  std::vector<std::string> labels;          ///< data_config.label_fields; empty in predict
  std::vector<std::string> sample_weights;  ///< data_config.sample_weight_fields; empty in predict
  std::vector<std::string> reserved;        ///< passed through in predict, in this order
  std::vector<AlignedSequences> aligned;    ///< checked in every batch
  std::string event_time;                   ///< of the rows, where the schema has it; empty: not asked for
};

/// Compiled once, shared by all reader threads.
class BatchAssembler {
 public:
  /// Throws DataError for a label that is neither floating nor integer (a list of these where they are aligned with a
  /// sequence) and for a weight that is not floating (parity/data.md 4), and for an event time that is no integer.
  BatchAssembler(features::FeatureProgram program, const BatchColumns& columns, const arrow::Schema& schema);

  bool has_event_times() const { return event_time_.has_value(); }

  /// Overwrites `out`; its buffers are used again. Throws DataError naming file, row, column and text.
  void Fill(std::span<const RowSlice> slices, Batch* out) const;

 private:
  struct Column {
    std::string name;
    int index = 0;
    bool list = false, integer = false, floating = false;  ///< of a list what its values are
  };

  Column Find(const std::string& name, const arrow::Schema& schema) const;
  void FillLabels(std::span<const RowSlice> slices, Batch* out) const;
  int64_t NewestEvent(std::span<const RowSlice> slices) const;
  void ReserveRows(std::span<const RowSlice> slices, Batch* out) const;

  features::FeatureProgram program_;
  std::vector<Column> labels_, sample_weights_;
  std::vector<AlignedSequences> aligned_;
  std::vector<std::string> label_names_;
  std::vector<int> reserved_;
  std::optional<Column> event_time_;
};

}  // namespace anneal::data
