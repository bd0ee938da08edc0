#include "worker/nn/linear.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <cmath>
#include <cstdlib>
#include <string_view>

#include "worker/config/error.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using PointwiseSignature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                      std::string_view, c10::List<std::optional<at::Scalar>>,
                                      std::optional<std::string_view>);

// LibTorch's oneDNN linear with a fused activation. On AMD cores its float32 GEMM is twice as fast as the MKL one
// behind at::linear, at the same accuracy.
at::Tensor OneDnnLinear(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                        std::string_view activation) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<PointwiseSignature>();
  return op.call(x, weight, bias, activation, c10::List<std::optional<at::Scalar>>(), "");
}

struct FusedLinear : torch::autograd::Function<FusedLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, bool relu) {
    at::Tensor y = OneDnnLinear(x, weight, bias, relu ? "relu" : "none");
    context->save_for_backward({x, weight, y});
    context->saved_data["relu"] = relu;
    context->saved_data["bias"] = bias.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &y = saved[2];
    at::Tensor g =
        context->saved_data["relu"].toBool() ? at::threshold_backward(gradients[0], y, 0) : gradients[0].contiguous();
    at::Tensor gx;
    if (context->needs_input_grad(0)) gx = OneDnnLinear(g, weight.t().contiguous(), {}, "none");
    at::Tensor gw = OneDnnLinear(g.t(), x.t(), {}, "none");
    at::Tensor gb;
    if (context->saved_data["bias"].toBool()) gb = g.sum(0);
    return {gx, gw, gb, at::Tensor()};
  }
};

/// ANNEAL_LINEAR=onednn asks for the fused path; the stock operators are the default because they make training equal
/// to TorchEasyRec's to the last bit (docs/decisions/0002-bit-identical-by-default.md).
bool OneDnnAsked() {
  static const bool asked = [] {
    const char* value = std::getenv("ANNEAL_LINEAR");
    const std::string_view text = value ? value : "";
    if (!text.empty() && text != "onednn" && text != "stock") {
      throw ConfigError("environment variable ANNEAL_LINEAR='" + std::string(text) + "': one of stock, onednn");
    }
    return text == "onednn";
  }();
  return asked;
}

// The fused path holds for plain float32 matrices on the CPU; anything else (autocast, CUDA, an export being traced)
// goes through the stock operators.
bool UseFused(const at::Tensor& x) {
  return OneDnnAsked() && x.dim() == 2 && x.device().is_cpu() && x.scalar_type() == at::kFloat && x.size(0) > 0 &&
         !at::autocast::is_autocast_enabled(at::kCPU) && !torch::jit::tracer::isTracing();
}

}  // namespace

Linear::Linear(int64_t in, int64_t out, bool bias) {
  const double bound = in > 0 ? 1.0 / std::sqrt(static_cast<double>(in)) : 0.0;
  weight_ = RegisterParameter("weight", at::empty({out, in}, at::kFloat).uniform_(-bound, bound));
  if (bias) bias_ = RegisterParameter("bias", at::empty({out}, at::kFloat).uniform_(-bound, bound));
}

at::Tensor Linear::Forward(const at::Tensor& x) const {
  const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
  return UseFused(x) ? FusedLinear::apply(x, weight_, bias, false) : at::linear(x, weight_, bias);
}

at::Tensor Linear::ForwardRelu(const at::Tensor& x) const {
  const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
  return UseFused(x) ? FusedLinear::apply(x, weight_, bias, true) : at::relu(at::linear(x, weight_, bias));
}

}  // namespace anneal::nn
