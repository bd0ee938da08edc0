#include "worker/export/table_type.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "worker/config/error.h"

namespace anneal::exporting {
namespace {

/// One row's codes, one byte each, and its scale and bias.
void QuantizeRow(const float* row, int64_t dim, int bits, uint8_t* codes, float& scale, float& bias) {
  const auto [low, high] = std::minmax_element(row, row + dim);
  bias = c10::Half(*low);
  const int top = (1 << bits) - 1;
  const float range = *high - bias;
  scale = c10::Half(range == 0 ? 1.0f : range / static_cast<float>(top));
  if (scale == 0) scale = 1;  // the range is below fp16
  float inverse = 1.0f / scale;
  if (std::isinf(inverse)) scale = inverse = 1;
  for (int64_t i = 0; i < dim; ++i) {
    codes[i] = static_cast<uint8_t>(std::clamp(static_cast<int>(std::lrintf((row[i] - bias) * inverse)), 0, top));
  }
}

at::Tensor PackRows(const at::Tensor& weights, int bits, const std::string& table) {
  const int64_t rows = weights.size(0), dim = weights.size(1), per_byte = 8 / bits;
  if (dim % per_byte != 0) {
    throw ConfigError("table '" + table + "': " + std::to_string(bits) +
                      " bit rows need an embedding_dim divisible by " + std::to_string(per_byte) + ", it is " +
                      std::to_string(dim));
  }
  const bool wide = bits == 8;  // scale and bias as float32, not fp16
  const int64_t tail = wide ? 8 : 4, stride = dim / per_byte + tail;
  at::Tensor packed = at::zeros({rows, stride}, at::kByte);
  const float* from = weights.const_data_ptr<float>();
  auto* to = packed.mutable_data_ptr<uint8_t>();
  std::vector<uint8_t> codes(dim);
  for (int64_t r = 0; r < rows; ++r, from += dim, to += stride) {
    float scale, bias;
    QuantizeRow(from, dim, bits, codes.data(), scale, bias);
    // The first of a byte's values is in its low bits.
    for (int64_t i = 0; i < dim; ++i) to[i / per_byte] |= static_cast<uint8_t>(codes[i] << (i % per_byte * bits));
    uint8_t* end = to + dim / per_byte;
    if (wide) {
      std::memcpy(end, &scale, 4);
      std::memcpy(end + 4, &bias, 4);
    } else {
      const c10::Half small_scale(scale), small_bias(bias);
      std::memcpy(end, &small_scale, 2);
      std::memcpy(end + 2, &small_bias, 2);
    }
  }
  return packed;
}

}  // namespace

const char* TableTypeName(TableType type) {
  switch (type) {
    case TableType::kFp16:
      return "FP16";
    case TableType::kInt8:
      return "INT8";
    case TableType::kInt4:
      return "INT4";
    case TableType::kInt2:
      return "INT2";
    default:
      return "FP32";
  }
}

TableType ParseTableType(const std::string& value, const std::string& source) {
  if (value.starts_with("0")) return TableType::kFp32;
  if (value == "1") return TableType::kInt8;
  for (const TableType type :
       {TableType::kFp32, TableType::kFp16, TableType::kInt8, TableType::kInt4, TableType::kInt2}) {
    if (value == TableTypeName(type)) return type;
  }
  throw ConfigError(source + "='" + value + "': one of 0, 1, FP32, FP16, INT8, INT4, INT2");
}

at::Tensor PackTable(const at::Tensor& weights, TableType type, const std::string& table) {
  if (type == TableType::kFp32) return weights;
  if (!at::isfinite(weights).all().item<bool>()) {
    throw ConfigError("table '" + table + "' holds values that are not finite: it cannot be quantised");
  }
  const at::Tensor source = weights.contiguous();
  switch (type) {
    case TableType::kFp16:
      return source.to(at::kHalf);
    case TableType::kInt8:
      return PackRows(source, 8, table);
    case TableType::kInt4:
      return PackRows(source, 4, table);
    default:
      return PackRows(source, 2, table);
  }
}

at::Tensor UnpackTable(const at::Tensor& packed, TableType type) {
  if (type == TableType::kFp32) return packed;
  if (type == TableType::kFp16) return packed.to(at::kFloat);
  const char* name = type == TableType::kInt8   ? "quantized::embedding_bag_byte_unpack"
                     : type == TableType::kInt4 ? "quantized::embedding_bag_4bit_unpack"
                                                : "quantized::embedding_bag_2bit_unpack";
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<at::Tensor(const at::Tensor&)>().call(packed);
}

}  // namespace anneal::exporting
