// The safetensors file format: 8 bytes header length, JSON header, raw little-endian tensor bytes.
// https://github.com/huggingface/safetensors (format description)
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace anneal::checkpoint {

/// Names of the element types in the header.
enum class DType { kF32, kF64, kF16, kBF16, kI64, kI32, kU8, kBool };
const char* DTypeName(DType dtype);
int64_t DTypeSize(DType dtype);

/// A tensor in memory or in a mapped file; row-major, contiguous.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;

  int64_t elements() const;
  int64_t bytes() const { return elements() * DTypeSize(dtype); }
};

/// What a written file is, for a manifest.
struct FileDigest {
  int64_t bytes = 0;
  uint32_t crc32 = 0;  ///< zlib's CRC-32 of the whole file
};

/// Writes and syncs the file. Throws TemporaryError naming it when the disk is full or fails.
FileDigest WriteSafetensors(const std::string& path, std::span<const TensorView> tensors);

/// Writes bytes to a new file and syncs it.
void WriteFileSynced(const std::string& path, const std::string& bytes);
/// Replaces a file whole or not at all: temporary name, sync, rename, sync of the folder.
void ReplaceFile(const std::string& path, const std::string& bytes);
/// Syncs a folder's entries.
void SyncFolder(const std::string& path);
/// CRC-32 and size by reading the file. Throws DataError when it cannot be read.
FileDigest DigestFile(const std::string& path);

/// A safetensors file mapped read-only. Every offset is checked against the file before use.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);  ///< throws DataError naming the file and what is wrong with it
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  std::map<std::string, TensorView> tensors_;
  void* map_ = nullptr;
  size_t size_ = 0;
};

}  // namespace anneal::checkpoint
