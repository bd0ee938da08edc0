#include "worker/export/table_type.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "worker/config/error.h"
#include "worker/nn/parallel.h"

namespace anneal::exporting {
namespace {

constexpr int64_t kRowsAtOnce = 4096;  // of a thread

/// One row's codes, one byte each, and its scale and bias.
template <int kTop>
void QuantizeRow(const float* row, int64_t dim, uint8_t* codes, float& scale, float& bias) {
  float low = row[0], high = row[0];
  for (int64_t i = 1; i < dim; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  bias = c10::Half(low);
  const float range = high - bias;
  scale = c10::Half(range == 0 ? 1.0f : range / static_cast<float>(kTop));
  if (scale == 0) scale = 1;  // the range is below fp16
  float inverse = 1.0f / scale;
  if (std::isinf(inverse)) scale = inverse = 1;
  for (int64_t i = 0; i < dim; ++i) {
    const float code = std::clamp((row[i] - bias) * inverse, 0.0f, static_cast<float>(kTop));
    codes[i] = static_cast<uint8_t>(std::lrintf(code));
  }
}

template <int kBits>
at::Tensor PackRows(const at::Tensor& weights, const std::string& table) {
  constexpr int64_t kPerByte = 8 / kBits;
  const int64_t rows = weights.size(0), dim = weights.size(1);
  if (dim % kPerByte != 0) {
    throw ConfigError("table '" + table + "': " + std::to_string(kBits) +
                      " bit rows need an embedding_dim divisible by " + std::to_string(kPerByte) + ", it is " +
                      std::to_string(dim));
  }
  constexpr bool kWide = kBits == 8;  // scale and bias as float32, not fp16
  const int64_t bytes = dim / kPerByte, stride = bytes + (kWide ? 8 : 4);
  at::Tensor packed = at::empty({rows, stride}, at::kByte);
  const float* source = weights.const_data_ptr<float>();
  auto* target = packed.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> codes(dim);
    for (int64_t r = begin; r < end; ++r) {
      float scale, bias;
      QuantizeRow<(1 << kBits) - 1>(source + r * dim, dim, codes.data(), scale, bias);
      uint8_t* to = target + r * stride;
      for (int64_t i = 0; i < bytes; ++i) {
        to[i] = codes[i * kPerByte];
        // The first of a byte's values is in its low bits.
        for (int64_t k = 1; k < kPerByte; ++k) to[i] |= static_cast<uint8_t>(codes[i * kPerByte + k] << (k * kBits));
      }
      if constexpr (kWide) {
        std::memcpy(to + bytes, &scale, 4);
        std::memcpy(to + bytes + 4, &bias, 4);
      } else {
        const c10::Half small_scale(scale), small_bias(bias);
        std::memcpy(to + bytes, &small_scale, 2);
        std::memcpy(to + bytes + 2, &small_bias, 2);
      }
    }
  });
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
      return PackRows<8>(source, table);
    case TableType::kInt4:
      return PackRows<4>(source, table);
    default:
      return PackRows<2>(source, table);
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
