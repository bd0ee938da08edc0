// A linear layer on the CPU by MatrixKernels, rows shared among at::get_num_threads() threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace anneal::nn {

/// What a linear layer y = x W' + b gives back: x's gradient [B, in], W's [out, in], b's [out]; undefined where nobody
/// asked for it.
struct LinearGradients {
  at::Tensor x, weight, bias;
};

/// x W' + b, no less than 0 with `relu`; x [B, in] float32 with contiguous rows, B and in > 0.
at::Tensor BlockedForward(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          bool relu);

/// x itself, or a copy, whose rows' numbers lie side by side; the rows may be apart.
at::Tensor WithContiguousRows(const at::Tensor& x);

/// A contiguous g that may be changed in place: itself when nobody else has it, otherwise a copy.
at::Tensor OwnGradient(at::Tensor g);

/// g [B, out] contiguous is d loss / d y; where `relu_output` (y of a layer with ReLU) is defined, g becomes
/// d loss / d (x W' + b) in place, also where `in` is 0. The order of the sums over the batch depends on the number of
/// threads.
LinearGradients BlockedBackward(const at::Tensor& g, const at::Tensor& relu_output, const at::Tensor& x,
                                const at::Tensor& weight, bool want_x, bool want_bias);

}  // namespace anneal::nn
