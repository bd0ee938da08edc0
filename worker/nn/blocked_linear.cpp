#include "worker/nn/blocked_linear.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "worker/nn/matrix_kernels.h"
#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

/// Runs work(part, first row, rows) for each of `parts` shares of the rows, whole blocks but for the last one's end.
template <typename Work>
void ForEachPart(int64_t rows, int64_t parts, Work work) {
  const int64_t block = ChooseMatrixKernels().block, share = ((rows + parts - 1) / parts + block - 1) / block * block;
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = std::min(rows, part * share);
      work(part, first, std::min(share, rows - first));
    }
  });
}

}  // namespace

at::Tensor WithContiguousRows(const at::Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); }

at::Tensor BlockedForward(const at::Tensor& any_x, const at::Tensor& any_weight,
                          const std::optional<at::Tensor>& any_bias, bool relu) {
  const MatrixKernels& kernels = ChooseMatrixKernels();
  const at::Tensor x = WithContiguousRows(any_x), weight = any_weight.contiguous();
  const at::Tensor bias = any_bias ? any_bias->contiguous() : at::Tensor();
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
  at::Tensor y = at::empty({rows, out}, x.options()), panels = at::empty({kernels.panels_size(in, out)}, x.options());
  kernels.pack(weight.const_data_ptr<float>(), 1, in, in, out, panels.data_ptr<float>());
  ForEachPart(rows, at::get_num_threads(), [&](int64_t, int64_t first, int64_t count) {
    kernels.multiply(x.const_data_ptr<float>() + first * x.stride(0), x.stride(0), count,
                     panels.const_data_ptr<float>(), in, out, bias.defined() ? bias.const_data_ptr<float>() : nullptr,
                     relu, y.data_ptr<float>() + first * out, out);
  });
  return y;
}

at::Tensor OwnGradient(at::Tensor g) {
  const bool ours = g.use_count() == 1 && g.storage().use_count() == 1 && g.is_contiguous();
  return ours ? g : g.clone(at::MemoryFormat::Contiguous);
}

LinearGradients BlockedBackward(const at::Tensor& g, const at::Tensor& relu_output, const at::Tensor& any_x,
                                const at::Tensor& any_weight, bool want_x, bool want_bias) {
  const MatrixKernels& kernels = ChooseMatrixKernels();
  const at::Tensor x = WithContiguousRows(any_x), weight = any_weight.contiguous();
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0), sums_size = kernels.outer_size(out, in);
  // Each part has sums of its own for the weights: together no more than the batch itself.
  const int64_t parts =
      std::clamp<int64_t>(rows * (in + out) / std::max<int64_t>(sums_size, 1), 1, at::get_num_threads());
  const auto options = x.options();
  LinearGradients gradients;
  at::Tensor panels;
  if (want_x) {
    gradients.x = at::empty({rows, in}, options);
    panels = at::empty({kernels.panels_size(out, in)}, options);
    kernels.pack(weight.const_data_ptr<float>(), in, 1, out, in, panels.data_ptr<float>());
  }
  at::Tensor weight_sums = at::zeros({parts, sums_size}, options);
  at::Tensor bias_sums = want_bias ? at::zeros({parts, out}, options) : at::Tensor();
  at::Tensor block_sums = at::empty(want_bias ? at::IntArrayRef{parts, out} : at::IntArrayRef{0, 0}, options);
  at::Tensor scratch = at::empty({parts, kernels.outer_scratch(out, in)}, options);
  ForEachPart(rows, parts, [&](int64_t part, int64_t first, int64_t count) {
    const int64_t end = first + count;
    for (int64_t row = first; row < end; row += kernels.block) {
      const int64_t block = std::min(kernels.block, end - row);
      float* from = g.data_ptr<float>() + row * out;
      // Sums of sums of a block's rows round less than one long sum.
      float* of_block = want_bias ? block_sums.data_ptr<float>() + part * out : nullptr;
      if (of_block) std::fill_n(of_block, out, 0.0f);
      kernels.mask(from, relu_output.defined() ? relu_output.const_data_ptr<float>() + row * out : nullptr, block, out,
                   of_block);
      for (int64_t i = 0; of_block && i < out; ++i) bias_sums.data_ptr<float>()[part * out + i] += of_block[i];
      if (want_x) {
        kernels.multiply(from, out, block, panels.const_data_ptr<float>(), out, in, nullptr, false,
                         gradients.x.data_ptr<float>() + row * in, in);
      }
      kernels.add_outer(from, out, out, x.const_data_ptr<float>() + row * x.stride(0), x.stride(0), in, block,
                        scratch.data_ptr<float>() + part * scratch.size(1),
                        weight_sums.data_ptr<float>() + part * weight_sums.size(1));
    }
  });
  if (want_bias) gradients.bias = parts == 1 ? bias_sums[0] : bias_sums.sum(0);
  const at::Tensor sums = parts == 1 ? weight_sums : weight_sums.sum(0);
  gradients.weight = at::empty({out, in}, options);
  kernels.take_outer(sums.const_data_ptr<float>(), out, in, gradients.weight.data_ptr<float>());
  return gradients;
}

}  // namespace anneal::nn
