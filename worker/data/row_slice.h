// A run of rows on their way from a file into a batch, with what is needed to name a row in a message or a checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace arrow {
class RecordBatch;
}

namespace anneal::data {

/// Rows [begin, begin + count) of `rows`. A batch is cut out of one or more slices without copying them together.
struct RowSlice {
  std::shared_ptr<arrow::RecordBatch> rows;
  int64_t begin = 0;
  int64_t count = 0;
  std::shared_ptr<const std::string> file;    ///< null: rows that come from no file
  int64_t row_in_file = 1;                    ///< 1-based number of the first row; CSV: its line, header included
  std::shared_ptr<const std::string> source;  ///< "<input_path>:<slice start>"; null: no reading position
  int64_t position = 0;                       ///< row number of the first row over all files of the input path
};

/// "ratings.parquet row 17" for row `row` (0-based) of the slice; "row 17" without a file.
inline std::string Where(const RowSlice& slice, int64_t row) {
  const std::string number = "row " + std::to_string(slice.row_in_file + row);
  return slice.file == nullptr ? number : *slice.file + " " + number;
}

}  // namespace anneal::data
