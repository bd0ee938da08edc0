// Parquet files, balanced by rows (parity/data.md 2.2).
#pragma once

#include <vector>

#include "worker/data/dataset.h"
#include "worker/data/row_ranges.h"

namespace parquet {
class FileMetaData;
}

namespace anneal::data {

/// Rows of all files are numbered through in file order and cut into one contiguous slice per worker of the whole job.
/// Every slice carries its reading position, so a checkpoint can be continued on another number of workers.
class ParquetDataset : public Dataset {
 public:
  /// Reads the footers of all files. Throws DataError for a file that is no Parquet, lacks a column or has it in
  /// another type than the first file.
  explicit ParquetDataset(const DatasetOptions& options);

  const std::shared_ptr<arrow::Schema>& schema() const override { return schema_; }
  int workers() const override { return options_.num_workers; }
  int64_t total_rows() const override { return total_rows_; }
  int64_t RowsOf(int worker) const override;
  std::string identity() const override;
  std::unique_ptr<RowReader> Open(int worker, int64_t pass, int64_t skip,
                                  const std::map<std::string, int64_t>& consumed) const override;

  struct File {
    std::shared_ptr<const std::string> path;
    std::shared_ptr<parquet::FileMetaData> metadata;
    std::vector<int> leaves;  ///< Parquet column indices of the selected columns
    std::vector<int> order;   ///< its columns in the schema's order; empty when they are
    int64_t begin = 0;        ///< number of its first row over all files
    int64_t end = 0;
  };

 private:
  RowRange ShareOf(int worker, int64_t rows) const;

  DatasetOptions options_;
  std::vector<File> files_;
  std::shared_ptr<arrow::Schema> schema_;
  int64_t total_rows_ = 0;
};

}  // namespace anneal::data
