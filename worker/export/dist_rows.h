// Rows of DIST_QUANT=INT8 (parity/export.md 10), in the format of embedding/quantized_row.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace anneal::exporting {

/// float32 [N, D] -> uint8 [N, D + 4]. Throws ConfigError naming `table` when D is odd or a value is not finite.
at::Tensor PackDistRows(const at::Tensor& weights, const std::string& table);

/// What a row server makes of packed rows: float32 [N, D].
at::Tensor UnpackDistRows(const at::Tensor& packed);

}  // namespace anneal::exporting
