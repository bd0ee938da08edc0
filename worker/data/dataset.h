// Where rows come from: a set of files, shared out over ranks and reader threads.
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "tzrec/data.pb.h"
#include "worker/data/column_selection.h"
#include "worker/data/row_slice.h"

namespace anneal::data {

/// The rows of one worker in one pass, in order. Used by one thread.
class RowReader {
 public:
  virtual ~RowReader() = default;
  /// Sets `out` to the next rows, at least one. False at the end. Throws DataError.
  virtual bool Next(RowSlice* out) = 0;
};

struct DatasetOptions {
  std::string input_path;  ///< comma list of globs
  ColumnSelection columns;
  int rank = 0;
  int world_size = 1;
  int num_workers = 1;          ///< reader threads per rank, at least 1
  int64_t even_batch_size = 0;  ///< see ShareOfRows; 0 in predict
  int64_t chunk_rows = 8192;    ///< rows decoded at a time
  bool shuffle_files = false;   ///< CSV in training: another order of a worker's files in every pass
  uint64_t seed = 0;
};

/// One input path opened: file list and schema are known, nothing is read yet. Open() may be called from any thread.
class Dataset {
 public:
  virtual ~Dataset() = default;
  /// The selected columns in the file's order; every record batch has exactly these.
  virtual const std::shared_ptr<arrow::Schema>& schema() const = 0;
  /// Reader threads to start on this rank; CSV may lower the number asked for.
  virtual int workers() const = 0;
  /// Rows over all ranks; -1 when the files do not say (CSV).
  virtual int64_t total_rows() const = 0;
  /// Rows of worker `worker` in a pass over all; -1 when the files do not say (CSV).
  virtual int64_t RowsOf(int worker) const = 0;
  /// Equal texts: the same rows in the same order for every worker.
  virtual std::string identity() const = 0;
  /// The rows of worker `worker` (0 .. workers()-1) in pass `pass` (0, 1, ...), without the first `skip` (0 where
  /// RowsOf() is -1) and without those of `consumed`, a reading position that CSV does not know.
  virtual std::unique_ptr<RowReader> Open(int worker, int64_t pass, int64_t skip,
                                          const std::map<std::string, int64_t>& consumed) const = 0;
};

/// Picks the reader by data_config.dataset_type. Throws ConfigError for a type that is not supported yet.
std::unique_ptr<Dataset> OpenDataset(const tzrec::protos::DataConfig& config, const DatasetOptions& options);

}  // namespace anneal::data
