// A linear layer on the CPU whose input holds the same rows again and again (repeated_rows.h): y = x W' + b computes
// each distinct row's product with its columns of W once and adds them up, and backward adds up the gradients of a
// distinct row's holders before it multiplies. Of a batch of 8192 rows of 26 features whose ids are distributed by
// Zipf's law with exponent 1.1, a fifth of the products is left.
#pragma once

#include "worker/nn/blocked_linear.h"
#include "worker/nn/repeated_rows.h"

namespace anneal::nn {

/// As BlockedForward.
at::Tensor RepeatedForward(const at::Tensor& x, const RepeatedRows& repeated, const at::Tensor& weight,
                           const std::optional<at::Tensor>& bias, bool relu);

/// As LinearKernels::Backward, but for x's gradient: in the columns of a part, the first holder of a distinct row has
/// the sum of all its holders' gradients, the others have 0. For the numbers that x was put together from it is the
/// same.
LinearGradients RepeatedBackward(at::Tensor g, const at::Tensor& relu_output, const at::Tensor& x,
                                 const RepeatedRows& repeated, const at::Tensor& weight, bool want_x, bool want_bias);

}  // namespace anneal::nn
