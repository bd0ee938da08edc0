#include "worker/nn/position_pairs.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 16;

/// Where each row's positions begin among all: [B + 1].
std::vector<int64_t> Starts(const at::Tensor& length) {
  std::vector<int64_t> starts(length.size(0) + 1, 0);
  const int64_t* lengths = length.const_data_ptr<int64_t>();
  for (int64_t b = 0; b < length.size(0); ++b) starts[b + 1] = starts[b] + lengths[b];
  return starts;
}

void Pair(const float* __restrict q, const float* __restrict s, int64_t dim, float* __restrict out) {
  for (int64_t d = 0; d < dim; ++d) {
    out[d] = q[d];
    out[dim + d] = s[d];
    out[2 * dim + d] = q[d] - s[d];
    out[3 * dim + d] = q[d] * s[d];
  }
}

/// Adds to the query's gradient, sets that of the position.
void PairGradient(const float* __restrict g, const float* __restrict q, const float* __restrict s, int64_t dim,
                  float* __restrict of_query, float* __restrict of_position) {
  const float *both = g + 2 * dim, *product = g + 3 * dim;
  for (int64_t d = 0; d < dim; ++d) {
    of_query[d] += g[d] + both[d] + product[d] * s[d];
    of_position[d] = g[dim + d] - both[d] + product[d] * q[d];
  }
}

struct Pairs : torch::autograd::Function<Pairs> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& query, const at::Tensor& sequence,
                            const at::Tensor& length) {
    context->save_for_backward({query, sequence, length});
    const int64_t dim = sequence.size(2);
    const std::vector<int64_t> starts = Starts(length);
    at::Tensor pairs = at::empty({starts.back(), 4 * dim}, sequence.options());
    const float *q = query.const_data_ptr<float>(), *s = sequence.const_data_ptr<float>();
    float* out = pairs.data_ptr<float>();
    at::parallel_for(0, query.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        for (int64_t t = 0; t < starts[b + 1] - starts[b]; ++t) {
          Pair(q + b * query.stride(0), s + b * sequence.stride(0) + t * sequence.stride(1), dim,
               out + (starts[b] + t) * 4 * dim);
        }
      }
    });
    return pairs;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &query = saved[0], &sequence = saved[1], gradient = gradients[0].contiguous();
    const int64_t dim = sequence.size(2);
    const std::vector<int64_t> starts = Starts(saved[2]);
    at::Tensor of_query = at::zeros_like(query, at::MemoryFormat::Contiguous);
    at::Tensor of_sequence = at::empty_like(sequence, at::MemoryFormat::Contiguous);
    const float *q = query.const_data_ptr<float>(), *s = sequence.const_data_ptr<float>(),
                *g = gradient.const_data_ptr<float>();
    float *to_query = of_query.data_ptr<float>(), *to_sequence = of_sequence.data_ptr<float>();
    const int64_t row = sequence.size(1) * dim;
    at::parallel_for(0, query.size(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t length = starts[b + 1] - starts[b];
        for (int64_t t = 0; t < length; ++t) {
          PairGradient(g + (starts[b] + t) * 4 * dim, q + b * query.stride(0),
                       s + b * sequence.stride(0) + t * sequence.stride(1), dim, to_query + b * dim,
                       to_sequence + b * row + t * dim);
        }
        std::fill(to_sequence + b * row + length * dim, to_sequence + (b + 1) * row, 0.0f);
      }
    });
    return {of_query, of_sequence, at::Tensor()};
  }
};

struct Spread : torch::autograd::Function<Spread> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& values, const at::Tensor& length,
                            int64_t longest) {
    context->save_for_backward({length});
    const std::vector<int64_t> starts = Starts(length);
    at::Tensor spread = at::zeros({length.size(0), longest}, values.options());
    const float* from = values.const_data_ptr<float>();
    float* to = spread.data_ptr<float>();
    for (int64_t b = 0; b < length.size(0); ++b) std::copy(from + starts[b], from + starts[b + 1], to + b * longest);
    return spread;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const std::vector<int64_t> starts = Starts(context->get_saved_variables()[0]);
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor values = at::empty({starts.back(), 1}, gradient.options());
    const float* from = gradient.const_data_ptr<float>();
    float* to = values.data_ptr<float>();
    const int64_t longest = gradient.size(1);
    for (int64_t b = 0; b < gradient.size(0); ++b) {
      std::copy_n(from + b * longest, starts[b + 1] - starts[b], to + starts[b]);
    }
    return {values, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor PairPositions(const at::Tensor& query, const Sequence& input) {
  return Pairs::apply(query, input.sequence, input.length);
}

at::Tensor SpreadPositions(const at::Tensor& values, const Sequence& input) {
  return Spread::apply(values.to(at::kFloat).contiguous(), input.length, input.sequence.size(1));
}

}  // namespace anneal::nn
