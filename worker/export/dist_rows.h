// Rows of DIST_QUANT=INT8 (parity/export.md 10): D codes of one byte, then fp16 scale, then fp16 offset.
//
//   offset = fp16(min), scale = fp16((max - offset) / 255), 0 -> 1, code = clip(round_half_even((x - offset) / scale),
//   0, 255)
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace anneal::exporting {

/// float32 [N, D] -> uint8 [N, D + 4]. Throws ConfigError naming `table` when D is odd or a value is not finite.
at::Tensor PackDistRows(const at::Tensor& weights, const std::string& table);

/// What a row server makes of packed rows: float32 [N, D].
at::Tensor UnpackDistRows(const at::Tensor& packed);

}  // namespace anneal::exporting
