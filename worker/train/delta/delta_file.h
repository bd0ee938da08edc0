// A file of embedding rows that changed (parity/train.md 18): Parquet with the columns global_step int64, rank int32,
// world_size int32, feature_name string, table_fqn string, key_id int64, embedding list<float32>, source string.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace anneal::train {

/// Rows of one table.
struct DeltaRows {
  std::string feature_name;  ///< of the features that look the table up, joined by commas
  std::string table_fqn;     ///< the table's state name without ".weight"
  int64_t dim = 0;
  std::vector<int64_t> keys;
  std::vector<float> values;  ///< [keys, dim] row-major
};

struct DeltaFile {
  int64_t global_step = 0;
  int rank = 0, world_size = 1;
  /// The embedding is list<uint8>, see QuantizeRow.
  bool quantized = false;
  std::vector<DeltaRows> tables;
};

/// Replaces the file whole or not at all. Throws TemporaryError naming it when the disk is full or fails.
void WriteDeltaFile(const std::string& path, const DeltaFile& file);

/// Bytes that a quantised row has more than it has values.
inline constexpr int64_t kQuantizedRowExtra = 4;

/// QUint8RowwiseF16: `dim` codes, then scale and offset as little-endian float16. value = code * scale + offset, where
/// the offset is the row's least value and 255 * scale its range. `out` has dim + kQuantizedRowExtra bytes.
void QuantizeRow(const float* row, int64_t dim, uint8_t* out);

}  // namespace anneal::train
