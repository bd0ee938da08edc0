#include "worker/nn/cin.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>
#include <cmath>

#include "worker/nn/arithmetic.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Products of some rows that the processor's second-level cache holds.
constexpr int64_t kProductsAtOnce = 1 << 17;

/// [N, H], [N, F] -> [N, H*F]
at::Tensor Products(const at::Tensor& maps, const at::Tensor& fields) {
  return (maps.unsqueeze(2) * fields.unsqueeze(1)).flatten(1);
}

/// linear(Products(maps, fields)), a few rows at a time: all products together are larger than anything else in a step.
struct LinearOfProducts : torch::autograd::Function<LinearOfProducts> {
  static int64_t RowsAtOnce(const at::Tensor& weight) {
    return std::max<int64_t>(64, kProductsAtOnce / weight.size(1));
  }

  static at::Tensor forward(AutogradContext* context, const at::Tensor& maps, const at::Tensor& fields,
                            const at::Tensor& weight, const at::Tensor& bias) {
    context->save_for_backward({maps, fields, weight});
    const int64_t rows = maps.size(0), step = RowsAtOnce(weight);
    at::Tensor y = at::empty({rows, weight.size(0)}, maps.options());
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t count = std::min(step, rows - row);
      at::Tensor out = y.narrow(0, row, count);
      at::addmm_out(out, bias, Products(maps.narrow(0, row, count), fields.narrow(0, row, count)), weight.t());
    }
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &maps = saved[0], &fields = saved[1], &weight = saved[2];
    const at::Tensor g = gradients[0].contiguous();
    const int64_t rows = maps.size(0), step = RowsAtOnce(weight);
    at::Tensor of_maps = at::empty_like(maps), of_fields = at::empty_like(fields), of_weight = at::zeros_like(weight);
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t count = std::min(step, rows - row);
      const at::Tensor m = maps.narrow(0, row, count), f = fields.narrow(0, row, count), part = g.narrow(0, row, count);
      of_weight.addmm_(part.t(), Products(m, f));
      const at::Tensor of_products = at::mm(part, weight).view({count, maps.size(1), fields.size(1)});
      of_maps.narrow(0, row, count).copy_(at::bmm(of_products, f.unsqueeze(2)).squeeze(2));
      of_fields.narrow(0, row, count).copy_(at::bmm(m.unsqueeze(1), of_products).squeeze(1));
    }
    return {of_maps, of_fields, of_weight, g.sum(0)};
  }
};

bool UseFused(const at::Tensor& x) {
  return !Arithmetic::OfProcess().reference() && x.device().is_cpu() && x.scalar_type() == at::kFloat &&
         !at::autocast::is_autocast_enabled(at::kCPU) && !torch::jit::tracer::isTracing();
}

}  // namespace

Cin::Cin(int64_t fields, int64_t dim, const std::vector<int64_t>& maps) : fields_(fields), dim_(dim) {
  int64_t before = fields;
  for (size_t i = 0; i < maps.size(); ++i) {
    const std::string name = "cin_layers." + std::to_string(i);
    const double bound = 1.0 / std::sqrt(static_cast<double>(before * fields));  // torch.nn.Conv1d's
    weights_.push_back(RegisterParameter(name + ".weight",
                                         at::empty({maps[i], before * fields, 1}, at::kFloat).uniform_(-bound, bound)));
    biases_.push_back(RegisterParameter(name + ".bias", at::empty({maps[i]}, at::kFloat).uniform_(-bound, bound)));
    output_dim_ += maps[i];
    before = maps[i];
  }
}

at::Tensor Cin::Forward(const at::Tensor& x) const {
  // A row for each column of each example: what the convolution mixes lies side by side.
  const at::Tensor fields = x.reshape({-1, fields_, dim_}).transpose(1, 2).reshape({-1, fields_});
  at::Tensor maps = fields;
  std::vector<at::Tensor> sums;
  for (size_t i = 0; i < weights_.size(); ++i) {
    const at::Tensor weight = weights_[i].squeeze(2);
    maps = UseFused(maps) ? LinearOfProducts::apply(maps, fields, weight, biases_[i])
                          : at::linear(Products(maps, fields), weight, biases_[i]);
    sums.push_back(maps.reshape({-1, dim_, weight.size(0)}).sum(1));
  }
  return at::cat(sums, 1);
}

}  // namespace anneal::nn
