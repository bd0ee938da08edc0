// CSV files, shared out whole (parity/data.md 2.1).
#pragma once

#include <vector>

#include "worker/data/dataset.h"
#include "worker/data/input_fields.h"

namespace anneal::data {

/// Every file is read by one worker: of the whole job's workers, number w reads files w, w + count, ... A name ending
/// in .gz, .zst, .bz2 or .lz4 is decompressed. Column names come from the header (with_header) or from input_fields.
/// Types come from input_fields, otherwise from the first 64 MiB of the first file that has a value in every column,
/// and hold for all files. An empty cell is null unless its column is a string. No reading position: a resumed pass
/// reads again what it has read.
class CsvDataset : public Dataset {
 public:
  /// Throws ConfigError when there are fewer files than ranks or no column names, DataError for a column that is
  /// missing or of a type that is not supported.
  CsvDataset(const tzrec::protos::DataConfig& config, const DatasetOptions& options);

  const std::shared_ptr<arrow::Schema>& schema() const override { return schema_; }
  int workers() const override { return workers_; }  ///< at most files / world_size
  int64_t total_rows() const override { return -1; }
  int64_t RowsOf(int) const override { return -1; }
  std::string identity() const override;
  std::unique_ptr<RowReader> Open(int worker, int64_t pass, int64_t skip,
                                  const std::map<std::string, int64_t>& consumed) const override;

 private:
  DatasetOptions options_;
  std::vector<std::string> files_;
  std::vector<InputField> fields_;
  char delimiter_ = ',';
  bool with_header_ = false;
  int workers_ = 1;
  std::shared_ptr<arrow::Schema> schema_;
};

}  // namespace anneal::data
