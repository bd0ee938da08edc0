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
  /// The embedding is list<uint8>, rows of embedding/quantized_row.h.
  bool quantized = false;
  std::vector<DeltaRows> tables;
};

/// Replaces the file whole or not at all. Throws TemporaryError naming it when the disk is full or fails.
void WriteDeltaFile(const std::string& path, const DeltaFile& file);

}  // namespace anneal::train
