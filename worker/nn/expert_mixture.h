// Weighted sums of the experts' outputs, one per task: the last step of a multi-gate mixture of experts.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace anneal::nn {

/// experts: E tensors [B, W]; gates: one [B, E] per task, each row adding up to 1. Returns one [B, W] per task:
/// y_t[b] = sum_e gates_t[b, e] experts_e[b].
std::vector<at::Tensor> MixExperts(const std::vector<at::Tensor>& experts, const std::vector<at::Tensor>& gates);

}  // namespace anneal::nn
