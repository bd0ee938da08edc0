#include "worker/nn/expert_mixture.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <algorithm>

#include "worker/nn/arithmetic.h"
#include "worker/nn/parallel.h"

namespace anneal::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kRowsPerTask = 256;

std::vector<const float*> Pointers(at::TensorList tensors) {
  std::vector<const float*> pointers;
  for (const at::Tensor& tensor : tensors) pointers.push_back(tensor.const_data_ptr<float>());
  return pointers;
}

/// All tasks in one pass over the experts' outputs, where a stack and a product of small matrices per task would copy
/// and read them once for each. `inputs`: the experts, then the gates, all contiguous.
struct FusedMixture : torch::autograd::Function<FusedMixture> {
  static variable_list forward(AutogradContext* context, at::TensorList inputs, int64_t tasks) {
    const int64_t experts = static_cast<int64_t>(inputs.size()) - tasks;
    const int64_t rows = inputs[0].size(0), width = inputs[0].size(1);
    context->save_for_backward(inputs.vec());
    context->saved_data["tasks"] = tasks;
    const std::vector<const float*> in = Pointers(inputs);
    variable_list outputs;
    std::vector<float*> out;
    for (int64_t t = 0; t < tasks; ++t) {
      outputs.push_back(at::empty({rows, width}, inputs[0].options()));
      out.push_back(outputs.back().data_ptr<float>());
    }
    at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        for (int64_t t = 0; t < tasks; ++t) {
          const float* gate = in[experts + t] + b * experts;
          float* __restrict target = out[t] + b * width;
          std::fill_n(target, width, 0.f);
          for (int64_t e = 0; e < experts; ++e) {
            const float* __restrict expert = in[e] + b * width;
            const float weight = gate[e];
#pragma omp simd
            for (int64_t d = 0; d < width; ++d) target[d] += weight * expert[d];
          }
        }
      }
    });
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list inputs = context->get_saved_variables();
    const int64_t tasks = context->saved_data["tasks"].toInt();
    const int64_t experts = static_cast<int64_t>(inputs.size()) - tasks;
    const int64_t rows = inputs[0].size(0), width = inputs[0].size(1);
    for (at::Tensor& gradient : gradients) gradient = gradient.contiguous();
    const std::vector<const float*> in = Pointers(inputs), from = Pointers(gradients);
    variable_list results;
    std::vector<float*> out;
    for (const at::Tensor& input : inputs) {
      results.push_back(at::empty_like(input));
      out.push_back(results.back().data_ptr<float>());
    }
    at::parallel_for(0, rows, kRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        for (int64_t e = 0; e < experts; ++e) {
          const float* __restrict expert = in[e] + b * width;
          float* __restrict target = out[e] + b * width;
          std::fill_n(target, width, 0.f);
          for (int64_t t = 0; t < tasks; ++t) {
            const float* __restrict gradient = from[t] + b * width;
            const float weight = in[experts + t][b * experts + e];
            float product = 0;
#pragma omp simd reduction(+ : product)
            for (int64_t d = 0; d < width; ++d) {
              target[d] += weight * gradient[d];
              product += expert[d] * gradient[d];
            }
            out[experts + t][b * experts + e] = product;
          }
        }
      }
    });
    results.emplace_back();  // of `tasks`
    return results;
  }
};

bool UseFused(const std::vector<at::Tensor>& tensors) {
  return !Arithmetic::OfProcess().reference() && !torch::jit::tracer::isTracing() &&
         std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
           return tensor.dim() == 2 && tensor.is_contiguous() && tensor.device().is_cpu() &&
                  tensor.scalar_type() == at::kFloat;
         });
}

}  // namespace

std::vector<at::Tensor> MixExperts(const std::vector<at::Tensor>& experts, const std::vector<at::Tensor>& gates) {
  std::vector<at::Tensor> inputs = experts;
  inputs.insert(inputs.end(), gates.begin(), gates.end());
  if (UseFused(inputs)) return FusedMixture::apply(at::TensorList(inputs), static_cast<int64_t>(gates.size()));
  const at::Tensor stacked = at::stack(experts, 1);  // [B, E, W]
  std::vector<at::Tensor> tasks;
  for (const at::Tensor& gate : gates) tasks.push_back(at::matmul(gate.unsqueeze(1), stacked).squeeze(1));
  return tasks;
}

}  // namespace anneal::nn
