#include "worker/nn/factorization_machine.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <vector>

#include "worker/nn/arithmetic.h"
#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 256;

void Sums(const float* __restrict row, int64_t fields, int64_t dim, float* __restrict sum, float* __restrict squares) {
  for (int64_t d = 0; d < dim; ++d) sum[d] = squares[d] = 0;
  for (int64_t f = 0; f < fields; ++f, row += dim) {
#pragma omp simd
    for (int64_t d = 0; d < dim; ++d) {
      sum[d] += row[d];
      squares[d] += row[d] * row[d];
    }
  }
}

/// Both directions in one pass over x each; a row's sums are made anew in backward, which is cheaper than keeping them.
struct FusedMachine : torch::autograd::Function<FusedMachine> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t fields, int64_t dim) {
    context->save_for_backward({x});
    context->saved_data["fields"] = fields;
    context->saved_data["dim"] = dim;
    at::Tensor y = at::empty({x.size(0), dim}, x.options());
    const float* in = x.const_data_ptr<float>();
    float* out = y.data_ptr<float>();
    const int64_t stride = x.stride(0);
    at::parallel_for(0, x.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      std::vector<float> sum(dim), squares(dim);
      for (int64_t b = begin; b < end; ++b) {
        Sums(in + b * stride, fields, dim, sum.data(), squares.data());
        for (int64_t d = 0; d < dim; ++d) out[b * dim + d] = 0.5f * (sum[d] * sum[d] - squares[d]);
      }
    });
    return y;
  }

  // d y_d / d v_fd = sum_d - v_fd
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0], g = gradients[0].contiguous();
    const int64_t fields = context->saved_data["fields"].toInt(), dim = context->saved_data["dim"].toInt();
    at::Tensor gx = at::empty({x.size(0), fields * dim}, g.options());
    const float *in = x.const_data_ptr<float>(), *from = g.const_data_ptr<float>();
    float* out = gx.data_ptr<float>();
    const int64_t stride = x.stride(0);
    at::parallel_for(0, x.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      std::vector<float> sum(dim), squares(dim);
      for (int64_t b = begin; b < end; ++b) {
        const float* __restrict row = in + b * stride, * __restrict gradient = from + b * dim;
        float* __restrict target = out + b * fields * dim;
        const float* __restrict total = sum.data();
        Sums(row, fields, dim, sum.data(), squares.data());
        for (int64_t f = 0; f < fields; ++f, row += dim, target += dim) {
#pragma omp simd
          for (int64_t d = 0; d < dim; ++d) target[d] = gradient[d] * (total[d] - row[d]);
        }
      }
    });
    return {gx, at::Tensor(), at::Tensor()};
  }
};

bool UseFused(const at::Tensor& x) {
  return !Arithmetic::OfProcess().reference() && x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2 &&
         x.size(0) > 0 && x.stride(1) == 1 && !torch::jit::tracer::isTracing();
}

}  // namespace

at::Tensor FactorizationMachine(const at::Tensor& x, int64_t fields, int64_t dim) {
  if (UseFused(x)) return FusedMachine::apply(x, fields, dim);
  const at::Tensor v = x.reshape({-1, fields, dim});
  return (v.sum(1).square() - v.square().sum(1)) * 0.5;
}

}  // namespace anneal::nn
