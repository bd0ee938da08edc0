#include <algorithm>
#include <cstring>

#include "worker/config/error.h"
#include "worker/train/checkpoint/dcp/dcp_folder.h"

namespace anneal::checkpoint::dcp {

bool HasWholeRows(const Tensor& tensor) {
  return std::all_of(tensor.chunks.begin(), tensor.chunks.end(), [&](const Chunk& chunk) {
    for (size_t axis = 1; axis < tensor.shape.size(); ++axis) {
      if (chunk.data.shape[axis] != tensor.shape[axis]) return false;
    }
    return true;
  });
}

std::string JoinChunks(const Tensor& tensor, const std::string& where) {
  const int64_t size = DTypeSize(tensor.dtype);
  TensorView whole{"", tensor.dtype, tensor.shape};
  int64_t held = 0;
  for (const Chunk& chunk : tensor.chunks) {
    if (chunk.data.dtype != tensor.dtype) throw DataError(where + " has pieces of different types");
    held += chunk.data.elements();
  }
  // Every chunk lies inside of the tensor (checked when it was read), and the format's writer makes none that overlap.
  if (held != whole.elements()) throw DataError(where + " has pieces of " + std::to_string(held) + " of its numbers");
  std::string bytes(static_cast<size_t>(whole.bytes()), '\0');
  for (const Chunk& chunk : tensor.chunks) {
    const auto& shape = chunk.data.shape;
    // Runs along the last axis, one after another.
    const int64_t run = shape.empty() ? 1 : shape.back(), runs = run == 0 ? 0 : chunk.data.elements() / run;
    for (int64_t r = 0; r < runs; ++r) {
      int64_t rest = r, at = shape.empty() ? 0 : chunk.offsets.back(), stride = shape.empty() ? 1 : tensor.shape.back();
      for (size_t axis = shape.size(); axis-- > 1;) {
        at += (chunk.offsets[axis - 1] + rest % shape[axis - 1]) * stride;
        rest /= shape[axis - 1];
        stride *= tensor.shape[axis - 1];
      }
      std::memcpy(bytes.data() + at * size, static_cast<const char*>(chunk.data.data) + r * run * size,
                  static_cast<size_t>(run * size));
    }
  }
  return bytes;
}

}  // namespace anneal::checkpoint::dcp
