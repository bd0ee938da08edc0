// Factorization machine, second-order part. Rendle, "Factorization Machines", ICDM 2010.
#pragma once

#include <ATen/core/Tensor.h>

namespace anneal::nn {

/// 0.5 * ((sum_f v_f)^2 - sum_f v_f^2): x [B, fields*dim] (fields side by side) -> [B, dim].
at::Tensor FactorizationMachine(const at::Tensor& x, int64_t fields, int64_t dim);

}  // namespace anneal::nn
