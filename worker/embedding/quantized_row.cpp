#include "worker/embedding/quantized_row.h"

#include <c10/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace anneal::embedding {

void QuantizeRow(const float* row, int64_t dim, uint8_t* out) {
  const auto [low, high] = std::minmax_element(row, row + dim);
  // The codes are those for scale and offset as they are stored, so that rounding them costs nothing.
  const c10::Half offset(*low);
  c10::Half scale((*high - static_cast<float>(offset)) / 255.0f);
  if (static_cast<float>(scale) == 0) scale = 1.0f;
  for (int64_t i = 0; i < dim; ++i) {
    const float code = std::nearbyint((row[i] - static_cast<float>(offset)) / static_cast<float>(scale));
    out[i] = static_cast<uint8_t>(std::clamp(code, 0.0f, 255.0f));
  }
  std::memcpy(out + dim, &scale, 2);
  std::memcpy(out + dim + 2, &offset, 2);
}

}  // namespace anneal::embedding
