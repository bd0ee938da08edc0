// Weights of losses that keep each of them above a share. Lin et al., "A Pareto-Efficient Algorithm for Multiple
// Objective Optimization in E-Commerce Recommendation", RecSys 2019; parity/models.md 7.6.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace anneal::losses {

/// w = c + x of n losses, c the least weights (none negative, their sum below 1), so that the w add up to 1. x is the
/// point of {x >= 0, sum x = 1 - sum c} that is closest to the minimum of |sum (c + x)_i g_i|^2 over all of {sum x = 1
/// - sum c}, the one of least norm where there are several. `gram` [n, n] float64 on the host: inner products of the
/// losses' gradients g. Where a gradient is not finite x is the same for all.
std::vector<double> ParetoWeights(const at::Tensor& gram, const std::vector<double>& least);

/// That matrix: of the gradients of scalars in one graph, which stays, with respect to `parameters`; one that a loss
/// does not depend on counts as 0.
at::Tensor GramOfGradients(const std::vector<at::Tensor>& losses, const std::vector<at::Tensor>& parameters);

}  // namespace anneal::losses
