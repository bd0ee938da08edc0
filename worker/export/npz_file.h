// NumPy's .npz: a zip file of arrays, here stored and not compressed, so that readers may map it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "worker/train/checkpoint/files.h"

namespace anneal::exporting {

enum class NpyType { kFloat32, kUint8, kInt64 };

/// An array's place in the zip file.
struct NpzEntry {
  std::string name;
  uint32_t crc = 0;
  uint64_t bytes = 0, offset = 0;
};

/// Writes one array after another; entries of any size (zip64). Throws TemporaryError naming the file.
class NpzWriter {
 public:
  explicit NpzWriter(const std::string& path) : file_(path) {}

  /// A C-ordered array; numpy.load finds it under `name`.
  void Add(const std::string& name, NpyType type, const std::vector<int64_t>& shape, const void* data);
  /// Writes the directory and syncs. Without it the file is no zip file.
  void Finish();

 private:
  void Put(const std::string& bytes) { file_.Write(bytes.data(), static_cast<int64_t>(bytes.size())); }

  checkpoint::SyncedFile file_;
  std::vector<NpzEntry> entries_;
};

struct NpyArray {
  NpyType type = NpyType::kFloat32;
  std::vector<int64_t> shape;
  std::string bytes;
};

/// Reads a file that NpzWriter wrote. Throws DataError.
std::map<std::string, NpyArray> ReadNpz(const std::string& path);

}  // namespace anneal::exporting
