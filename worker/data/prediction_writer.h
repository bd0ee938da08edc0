// Predictions to files (parity/data.md 6).
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tzrec/data.pb.h"

namespace anneal::data {

/// One output of the model for a batch; the memory stays the caller's. Exactly one of `floats` and `ints` is set.
struct OutputColumn {
  std::string name;
  const float* floats = nullptr;
  const int64_t* ints = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;  ///< 0: [rows], a float or int64 column; otherwise [rows, cols] row-major, a list per row
  /// Not null: the rows are candidates, of which each row of the file has a list, the first row_lengths[0] and so on.
  const std::vector<int64_t>* row_lengths = nullptr;
};

/// One file of one rank: <directory>/part-<rank>.parquet or .csv. It is written under a temporary name and appears
/// whole, at Commit(), or not at all. A rank that writes no row leaves no file.
///
/// Columns: the outputs in the order given, then the reserved ones; a reserved column with the name of an output takes
/// its place. [rows, cols] floats become list<double>, integers list<int64>; so do [rows] of candidates, and
/// [rows, cols] of these lists of lists.
class PredictionWriter {
 public:
  /// The kind of file follows the dataset type: ParquetDataset, CsvDataset. Makes the directory. Throws ConfigError.
  static std::unique_ptr<PredictionWriter> Open(tzrec::protos::DatasetType type, const std::string& directory,
                                                int rank);
  /// Without Commit() the temporary file is removed.
  virtual ~PredictionWriter();

  /// Appends a batch. All batches have the same columns. `reserved` may be null. Throws ConfigError for columns of
  /// unequal length or of a type that the file cannot hold, TemporaryError when writing fails.
  void Write(std::span<const OutputColumn> outputs, const std::shared_ptr<arrow::RecordBatch>& reserved);

  /// Ends the file and gives it its name. Throws TemporaryError.
  void Commit();

  int64_t rows() const { return rows_; }             ///< written so far
  const std::string& path() const { return path_; }  ///< where the file appears

 protected:
  PredictionWriter(const std::string& directory, const std::string& name);

  /// Called before the first Append: opens the temporary file.
  virtual void Start(const std::string& path, const std::shared_ptr<arrow::Schema>& schema) = 0;
  virtual void Append(const std::shared_ptr<arrow::RecordBatch>& rows) = 0;
  virtual void Finish() = 0;

  /// Throws TemporaryError naming the file unless ok.
  void Check(const arrow::Status& status) const;

 private:
  std::string path_, temporary_path_;
  std::shared_ptr<arrow::Schema> schema_;  ///< null before the first batch
  int64_t rows_ = 0;
  bool committed_ = false;
};

}  // namespace anneal::data
