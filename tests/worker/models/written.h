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

/// The same of a leaf with its "gradient", zeros where it has none.
inline nlohmann::json WrittenWithGradient(const at::Tensor& leaf) {
  nlohmann::json written = Written(leaf);
  written["gradient"] = Written(leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf))["values"];
  return written;
}

}  // namespace anneal::models
