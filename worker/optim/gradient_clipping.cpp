#include "worker/optim/gradient_clipping.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "worker/config/error.h"

namespace anneal::optim {
namespace {

std::vector<at::Tensor> Gradients(const std::vector<nn::NamedTensor>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter.tensor.grad().defined()) gradients.push_back(parameter.tensor.grad());
  }
  return gradients;
}

at::Tensor TotalNorm(const std::vector<at::Tensor>& gradients, double norm_type) {
  std::vector<at::Tensor> norms;
  for (const auto& gradient : gradients) norms.push_back(at::linalg_vector_norm(gradient, norm_type));
  return at::linalg_vector_norm(at::stack(norms), norm_type);
}

}  // namespace

GradientClipping::GradientClipping(const tzrec::protos::GradClipping& config)
    : bound_(config.max_gradient()), norm_type_(config.norm_type()) {
  std::string type = config.clipping_type();
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::toupper(c); });
  if (type == "NORM") {
    type_ = Type::kNorm;
  } else if (type == "VALUE") {
    type_ = Type::kValue;
  } else if (type != "NONE") {
    throw ConfigError("train_config.grad_clipping.clipping_type: '" + config.clipping_type() +
                      "' is not one of norm, value, none");
  }
}

void GradientClipping::Apply(const std::vector<nn::NamedTensor>& parameters) const {
  if (type_ == Type::kNone) return;
  const c10::AutoGradMode no_grad(false);
  std::vector<at::Tensor> gradients = Gradients(parameters);
  if (gradients.empty()) return;
  if (type_ == Type::kValue) {
    for (auto& gradient : gradients) gradient.clamp_(-bound_, bound_);
    return;
  }
  // torch.nn.utils.clip_grad_norm_: the factor stays a tensor, so its rounding is the same.
  const at::Tensor factor = (bound_ / (TotalNorm(gradients, norm_type_) + 1e-6)).clamp_max(1.0);
  for (auto& gradient : gradients) gradient.mul_(factor);
}

double GradientNorm(const std::vector<nn::NamedTensor>& parameters, double norm_type) {
  const std::vector<at::Tensor> gradients = Gradients(parameters);
  return gradients.empty() ? 0.0 : TotalNorm(gradients, norm_type).item<double>();
}

}  // namespace anneal::optim
