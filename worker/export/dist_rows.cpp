#include "worker/export/dist_rows.h"

#include <ATen/ATen.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "worker/config/error.h"

namespace anneal::exporting {
namespace {

constexpr int64_t kTail = 4;  // bytes of scale and offset

}  // namespace

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
  at::Tensor packed = at::empty({rows, dim + kTail}, at::kByte);
  const float* from = source.const_data_ptr<float>();
  auto* to = packed.mutable_data_ptr<uint8_t>();
  for (int64_t r = 0; r < rows; ++r, from += dim, to += dim + kTail) {
    const auto [low, high] = std::minmax_element(from, from + dim);
    const c10::Half offset(*low);
    c10::Half scale((*high - static_cast<float>(offset)) / 255.0f);
    if (static_cast<float>(scale) == 0) scale = 1.0f;
    for (int64_t i = 0; i < dim; ++i) {
      const float code = std::nearbyint((from[i] - static_cast<float>(offset)) / static_cast<float>(scale));
      to[i] = static_cast<uint8_t>(std::clamp(code, 0.0f, 255.0f));
    }
    std::memcpy(to + dim, &scale, 2);
    std::memcpy(to + dim + 2, &offset, 2);
  }
  return packed;
}

at::Tensor UnpackDistRows(const at::Tensor& packed) {
  if (packed.dim() != 2 || packed.size(1) <= kTail) throw DataError("packed rows need a row and a tail of 4 bytes");
  const int64_t dim = packed.size(1) - kTail;
  const at::Tensor range = packed.narrow(1, dim, kTail).contiguous().view(at::kHalf).to(at::kFloat);
  return packed.narrow(1, 0, dim).to(at::kFloat) * range.narrow(1, 0, 1) + range.narrow(1, 1, 1);
}

}  // namespace anneal::exporting
