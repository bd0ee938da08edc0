// Number types of exported embedding tables, and rows packed in them (parity/export.md 8).
//
// Rows are those of fbgemm's FloatToFusedNBitRowwiseQuantizedSBHalf: per row bias = fp16(min), scale = fp16((max -
// bias) / (2^bits - 1)), code = round((x - bias) / scale). They are packed in the layout that LibTorch's own operators
// read: quantized::embedding_bag_byte_rowwise_offsets takes float32 scale and bias behind the codes ([N, D + 8] bytes,
// here holding fp16 values, so that the values are the reference's), the 4 and 2 bit operators fp16 ([N, D / 2 + 4],
// [N, D / 4 + 4]).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace anneal::exporting {

enum class TableType { kFp32, kFp16, kInt8, kInt4, kInt2 };

/// "FP32", "FP16", "INT8", "INT4", "INT2".
const char* TableTypeName(TableType type);

/// The type that QUANT_EMB=`value` means: as above, "1" INT8, "0..." FP32. Throws ConfigError naming `source`.
TableType ParseTableType(const std::string& value, const std::string& source);

/// float32 [N, D] -> what is stored: float32 [N, D], float16 [N, D] or uint8 rows. Throws ConfigError naming `table`
/// when D does not fill whole bytes or a value is not finite.
at::Tensor PackTable(const at::Tensor& weights, TableType type, const std::string& table);

/// What a lookup of packed rows gives: float32 [N, dim]. LibTorch's own unpacking operators do the work, so that
/// packing is checked against another implementation.
at::Tensor UnpackTable(const at::Tensor& packed, TableType type);

}  // namespace anneal::exporting
