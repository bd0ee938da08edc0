// One CSV file as record batches, with errors that name the row and the column.
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/data/input_fields.h"

namespace anneal::data {

struct CsvFormat {
  char delimiter = ',';
  bool with_header = false;
  std::vector<InputField> fields;    ///< names when there is no header; types where stated
  std::vector<std::string> columns;  ///< to read, in this order; empty: all
  int32_t block_bytes = 4 << 20;     ///< parsed at a time; types are inferred from the first block
};

class CsvFile {
 public:
  /// Reads the first block. Throws DataError naming the file.
  CsvFile(const std::string& path, const CsvFormat& format);
  ~CsvFile();

  std::shared_ptr<arrow::Schema> schema() const;
  /// The next rows; null at the end. Throws DataError naming file, row (line of the file, from 1) and column.
  std::shared_ptr<arrow::RecordBatch> Next();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace anneal::data
