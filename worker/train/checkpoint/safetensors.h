// The safetensors file format: 8 bytes header length, JSON header, raw little-endian tensor bytes.
// https://github.com/huggingface/safetensors (format description)
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "worker/train/checkpoint/files.h"

namespace anneal::checkpoint {

/// Names of the element types in the header.
enum class DType { kF32, kF64, kF16, kBF16, kI64, kI32, kU8, kBool };
const char* DTypeName(DType dtype);
int64_t DTypeSize(DType dtype);

/// A tensor in memory or in a mapped file; row-major, contiguous. One that is written may have `read` instead of data.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  /// Copies elements [first, first + count) to `out`; only for float32.
  std::function<void(int64_t first, int64_t count, float* out)> read;

  int64_t elements() const;
  int64_t bytes() const { return elements() * DTypeSize(dtype); }
};

/// Writes and syncs the file. Throws TemporaryError naming it when the disk is full or fails.
FileDigest WriteSafetensors(const std::string& path, std::span<const TensorView> tensors);

/// A safetensors file mapped read-only. Every offset is checked against the file before use.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);  ///< throws DataError naming the file and what is wrong with it
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  MappedFile file_;
  std::map<std::string, TensorView> tensors_;
};

}  // namespace anneal::checkpoint
