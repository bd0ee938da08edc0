// All features of a config compiled against the columns of the data: Arrow rows in, one batch out.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "tzrec/pipeline.pb.h"
#include "worker/data/batch.h"
#include "worker/data/row_slice.h"
#include "worker/features/dense_op.h"
#include "worker/features/dense_sequence_op.h"
#include "worker/features/derived/derived_columns.h"
#include "worker/features/feature_set.h"
#include "worker/features/sparse_op.h"

namespace arrow {
class Schema;
class RecordBatch;
}  // namespace arrow

namespace anneal::features {

/// What parity/features.md 3 (FG_NONE) and 4 (FG_NORMAL, FG_DAG, FG_BUCKETIZE) say happens to a value.
/// Compiled once; Run only reads the program, so that all reader threads share one.
///
/// Where the reference leaves it open, we decided: empty parts of a multi-value string ("a||b") are dropped in the FG
/// modes and refused in FG_NONE; a number in text has no blanks and no '+'; a default of one number stands for every
/// component of a vector; the environment variable USE_FARM_HASH_TO_BUCKETIZE=true picks FarmHash at compile time.
/// Of a sequence longer than sequence_length, feature generation keeps the first elements; an element that is null,
/// empty or an empty list is missing there, and refused in FG_NONE.
class FeatureProgram {
 public:
  /// `set` has to be made from `config`; `schema` is that of the record batches to come. Throws ConfigError for a
  /// fault of the config, DataError for a column that is missing or whose type its feature cannot read.
  FeatureProgram(const FeatureSet& set, const tzrec::protos::EasyRecConfig& config, const arrow::Schema& schema);

  /// Of the set's features, only those that `reads` says yes to are read; the others have no ids, no elements and zeros
  /// in every row.
  FeatureProgram(const FeatureSet& set, const tzrec::protos::EasyRecConfig& config, const arrow::Schema& schema,
                 const std::function<bool(const Feature&)>& reads);

  /// Fills out.rows, out.sparse, out.dense and out.dense_sequences with the rows of all slices in order. Throws
  /// DataError naming file, row, column and text of a value that cannot be read; `out` then holds an incomplete batch.
  void Run(std::span<const data::RowSlice> slices, data::Batch& out) const;

  /// The same for all rows of one record batch; messages count its rows from 1.
  void Run(const std::shared_ptr<arrow::RecordBatch>& rows, data::Batch& out) const;

 private:
  /// An op, and whether its column is one of derived_ or of the rows themselves.
  template <typename Op>
  struct Step {
    Op op;
    bool derived = false;

    const data::RowSlice& From(const data::RowSlice& rows, const data::RowSlice& derived_rows) const {
      return derived ? derived_rows : rows;
    }
  };

  DerivedColumns derived_;
  std::vector<Step<SparseOp>> sparse_;                  ///< as FeatureSet::sparse()
  std::vector<Step<DenseOp>> dense_;                    ///< as FeatureSet::dense()
  std::vector<Step<DenseSequenceOp>> dense_sequences_;  ///< as FeatureSet::dense_sequences()
  bool weighted_ = false;
  int64_t dense_width_ = 0;
};

}  // namespace anneal::features
