#include "worker/export/dist_rows.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"
#include "worker/embedding/quantized_row.h"

namespace anneal::exporting {

at::Tensor PackDistRows(const at::Tensor& weights, const std::string& table) {
  const int64_t rows = weights.size(0), dim = weights.size(1);
  if (dim % 2 != 0) {
    throw ConfigError("table '" + table + "': DIST_QUANT=INT8 needs an even embedding_dim, it is " +
                      std::to_string(dim));
  }
  if (!at::isfinite(weights).all().item<bool>()) {
    throw ConfigError("table '" + table + "' holds values that are not finite: it cannot be quantised");
  }
  const at::Tensor source = weights.contiguous();
  at::Tensor packed = at::empty({rows, dim + embedding::kQuantizedRowTail}, at::kByte);
  const float* from = source.const_data_ptr<float>();
  auto* to = packed.mutable_data_ptr<uint8_t>();
  for (int64_t r = 0; r < rows; ++r, from += dim, to += dim + embedding::kQuantizedRowTail)
    embedding::QuantizeRow(from, dim, to);
  return packed;
}

at::Tensor UnpackDistRows(const at::Tensor& packed) {
  if (packed.dim() != 2 || packed.size(1) <= embedding::kQuantizedRowTail)
    throw DataError("packed rows need a row and a tail of 4 bytes");
  const int64_t dim = packed.size(1) - embedding::kQuantizedRowTail;
  const at::Tensor range =
      packed.narrow(1, dim, embedding::kQuantizedRowTail).contiguous().view(at::kHalf).to(at::kFloat);
  return packed.narrow(1, 0, dim).to(at::kFloat) * range.narrow(1, 0, 1) + range.narrow(1, 1, 1);
}

}  // namespace anneal::exporting
