// Vectors as tensors, without a copy, for the collectives.
#pragma once

#include <ATen/ops/from_blob.h>

#include <vector>

namespace anneal::dist {

inline at::Tensor AsTensor(std::vector<int64_t>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kLong);
}

inline at::Tensor AsTensor(std::vector<float>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat);
}

inline at::Tensor AsTensor(std::vector<double>& values) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kDouble);
}

}  // namespace anneal::dist
