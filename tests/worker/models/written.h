// What tests of models write for Python to read.
#pragma once

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace anneal::models {

/// {"shape", "values"} of a tensor, as float32.
inline nlohmann::json Written(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kFloat).contiguous();
  return {{"shape", flat.sizes().vec()},
          {"values", std::vector<float>(flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel())}};
}

}  // namespace anneal::models
