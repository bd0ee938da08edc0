#include "worker/nn/linear.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <cmath>

#include "worker/nn/arithmetic.h"
#include "worker/nn/repeated_linear.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A layer of fewer outputs has too little to save.
constexpr int64_t kFewestOutputs = 32;

/// Null unless x holds so many rows again that it pays to compute them once.
const RepeatedRows* WorthRepeating(const at::Tensor& x, const at::Tensor& weight) {
  if (weight.size(0) < kFewestOutputs) return nullptr;
  const RepeatedRows* repeated = FindRepeatedRows(x);
  return repeated && !repeated->parts.empty() ? repeated : nullptr;
}

struct FusedLinear : torch::autograd::Function<FusedLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, bool relu) {
    const RepeatedRows* repeated = WorthRepeating(x, weight);
    at::Tensor y = repeated
                       ? RepeatedForward(x, *repeated, weight, bias, relu)
                       : Arithmetic::OfProcess().Find(weight.size(0), weight.size(1)).Forward(x, weight, bias, relu);
    context->save_for_backward({x, weight, relu ? y : at::Tensor()});
    context->saved_data["bias"] = bias.has_value();
    return y;
  }

  // By reference: a copy of the list would be a second owner of the gradient, which could not be changed in place then.
  static variable_list backward(AutogradContext* context, variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &y = saved[2];
    const bool want_x = context->needs_input_grad(0), want_bias = context->saved_data["bias"].toBool();
    const RepeatedRows* repeated = WorthRepeating(x, weight);
    const LinearKernels& kernels = Arithmetic::OfProcess().Find(weight.size(0), weight.size(1));
    const LinearGradients of =
        repeated ? RepeatedBackward(std::move(gradients[0]), y, x, *repeated, weight, want_x, want_bias)
                 : kernels.Backward(std::move(gradients[0]), y, x, weight, want_x, want_bias);
    return {of.x, of.weight, of.bias, at::Tensor()};
  }
};

// The chosen kernels hold for plain float32 matrices on the CPU; anything else (autocast, CUDA, an export being traced)
// goes through the stock operators.
bool UseFused(const at::Tensor& x) {
  return !Arithmetic::OfProcess().reference() && x.dim() == 2 && x.device().is_cpu() && x.scalar_type() == at::kFloat &&
         x.numel() > 0 && !at::autocast::is_autocast_enabled(at::kCPU) && !torch::jit::tracer::isTracing();
}

}  // namespace

Linear::Linear(int64_t in, int64_t out, bool bias) {
  const double bound = in > 0 ? 1.0 / std::sqrt(static_cast<double>(in)) : 0.0;
  weight_ = RegisterParameter("weight", at::empty({out, in}, at::kFloat).uniform_(-bound, bound));
  if (bias) bias_ = RegisterParameter("bias", at::empty({out}, at::kFloat).uniform_(-bound, bound));
}

void Linear::ZeroBias() { bias_.detach().zero_(); }

at::Tensor Linear::Forward(const at::Tensor& x) const {
  const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
  return UseFused(x) ? FusedLinear::apply(x, weight_, bias, false) : at::linear(x, weight_, bias);
}

at::Tensor Linear::ForwardRelu(const at::Tensor& x) const {
  const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
  return UseFused(x) ? FusedLinear::apply(x, weight_, bias, true) : at::relu(at::linear(x, weight_, bias));
}

}  // namespace anneal::nn
