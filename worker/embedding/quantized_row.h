// Rows as one byte a value with an fp16 range each (FBGEMM's QUint8RowwiseF16): what DIST_QUANT=INT8 exports
// (parity/export.md 10) and quantised delta embedding dumps (parity/train.md 18) hold.
//
//   offset = fp16(min), scale = fp16((max - offset) / 255), 0 -> 1, code = clip(round_half_even((x - offset) / scale),
//   0, 255); value = code * scale + offset
#pragma once

#include <cstdint>

namespace anneal::embedding {

/// Bytes of scale and offset behind the codes.
inline constexpr int64_t kQuantizedRowTail = 4;

/// `dim` codes, then scale, then offset, both little-endian fp16: `out` has dim + kQuantizedRowTail bytes.
void QuantizeRow(const float* row, int64_t dim, uint8_t* out);

}  // namespace anneal::embedding
