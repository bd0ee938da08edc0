// What tests of kernels for linear layers share.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "worker/nn/arithmetic.h"

namespace anneal::nn {

/// Switches the process's arithmetic while it lives; see Arithmetic::ToText.
struct Using {
  explicit Using(const std::string& text) { Arithmetic::OfProcess().FromText(text); }
  ~Using() { Arithmetic::OfProcess().FromText("reference"); }
};

/// Of all numbers together; `exact` in double.
inline double RelativeError(const at::Tensor& got, const at::Tensor& exact) {
  return ((got.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

}  // namespace anneal::nn
