#include "worker/nn/interaction.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>

#include "worker/nn/arithmetic.h"
#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 64;

/// A row at a time, all in cache, where a product of matrices would compute every pair twice and pick half of them.
struct FusedDots : torch::autograd::Function<FusedDots> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t fields, int64_t dim) {
    context->save_for_backward({x});
    context->saved_data["fields"] = fields;
    context->saved_data["dim"] = dim;
    const int64_t pairs = fields * (fields - 1) / 2, stride = x.stride(0);
    at::Tensor y = at::empty({x.size(0), pairs}, x.options());
    const float* in = x.const_data_ptr<float>();
    float* out = y.data_ptr<float>();
    at::parallel_for(0, x.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const float* row = in + b * stride;
        float* target = out + b * pairs;
        for (int64_t i = 0; i < fields; ++i) {
          const float* __restrict first = row + i * dim;
          for (int64_t j = i + 1; j < fields; ++j) {
            const float* __restrict second = row + j * dim;
            float product = 0;
#pragma omp simd reduction(+ : product)
            for (int64_t d = 0; d < dim; ++d) product += first[d] * second[d];
            *target++ = product;
          }
        }
      }
    });
    return y;
  }

  // d (v_i . v_j) / d v_i = v_j
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0], g = gradients[0].contiguous();
    const int64_t fields = context->saved_data["fields"].toInt(), dim = context->saved_data["dim"].toInt();
    const int64_t pairs = fields * (fields - 1) / 2, stride = x.stride(0);
    at::Tensor gx = at::empty({x.size(0), fields * dim}, g.options());
    const float *in = x.const_data_ptr<float>(), *from = g.const_data_ptr<float>();
    float* out = gx.data_ptr<float>();
    at::parallel_for(0, x.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const float *row = in + b * stride, *gradient = from + b * pairs;
        float* target = out + b * fields * dim;
        std::fill_n(target, fields * dim, 0.f);
        for (int64_t i = 0; i < fields; ++i) {
          const float* __restrict first = row + i * dim;
          float* __restrict of_first = target + i * dim;
          for (int64_t j = i + 1; j < fields; ++j) {
            const float* __restrict second = row + j * dim;
            float* __restrict of_second = target + j * dim;
            const float factor = *gradient++;
#pragma omp simd
            for (int64_t d = 0; d < dim; ++d) {
              of_first[d] += factor * second[d];
              of_second[d] += factor * first[d];
            }
          }
        }
      }
    });
    return {gx, at::Tensor(), at::Tensor()};
  }
};

bool UseFused(const at::Tensor& x) {
  return !Arithmetic::OfProcess().reference() && x.device().is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2 &&
         x.size(0) > 0 && x.stride(1) == 1 && !at::autocast::is_autocast_enabled(at::kCPU) &&
         !torch::jit::tracer::isTracing();
}

}  // namespace

at::Tensor PairwiseDots(const at::Tensor& x, int64_t fields, int64_t dim) {
  if (UseFused(x)) return FusedDots::apply(x, fields, dim);
  const at::Tensor v = x.reshape({-1, fields, dim});
  const at::Tensor dots = at::bmm(v, v.transpose(1, 2)).flatten(1);
  const at::Tensor above = at::triu_indices(fields, fields, 1, at::kLong);
  return dots.index_select(1, (above[0] * fields + above[1]).to(x.device()));
}

}  // namespace anneal::nn
