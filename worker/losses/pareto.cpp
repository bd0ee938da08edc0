#include "worker/losses/pareto.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace anneal::losses {
namespace {

/// Moves y to the closest point of {x >= 0, sum x = total}: all of it is lowered by one number, and what falls below 0
/// is 0. The number follows from how many stay above: the largest ones, as many as can.
void ProjectOnSimplex(std::vector<double>& y, double total) {
  std::vector<double> largest = y;
  std::sort(largest.begin(), largest.end(), std::greater<>());
  double sum = 0, lowered = 0;
  for (size_t i = 0; i < largest.size(); ++i) {
    sum += largest[i];
    const double by = (sum - total) / static_cast<double>(i + 1);
    if (largest[i] > by) lowered = by;
  }
  for (double& value : y) value = std::max(value - lowered, 0.0);
}

/// Solves [[G, 1], [1, 0]] [y; lambda] = [-G c; total]. A multiple of G has the same y; scaled, its numbers and the
/// ones are alike.
std::vector<double> SolveOnPlane(const at::Tensor& gram, const at::Tensor& least, double total) {
  const int64_t n = gram.size(0);
  const double trace = gram.trace().item<double>();
  const at::Tensor scaled = trace > 0 ? gram / trace : gram;
  at::Tensor matrix = at::ones({n + 1, n + 1}, at::kDouble), wanted = at::full({n + 1}, total, at::kDouble);
  matrix.narrow(0, 0, n).narrow(1, 0, n).copy_(scaled);
  matrix[n][n] = 0;
  wanted.narrow(0, 0, n).copy_(-scaled.mv(least));
  const at::Tensor solved = at::linalg_pinv(matrix, 1e-12, /*hermitian=*/true).mv(wanted).contiguous();
  return {solved.const_data_ptr<double>(), solved.const_data_ptr<double>() + n};
}

}  // namespace

std::vector<double> ParetoWeights(const at::Tensor& gram, const std::vector<double>& least) {
  const double total = 1 - std::accumulate(least.begin(), least.end(), 0.0);
  std::vector<double> weights(least.size(), total / static_cast<double>(least.size()));
  if (gram.isfinite().all().item<bool>()) {
    weights = SolveOnPlane(gram, at::tensor(least, at::kDouble), total);
    ProjectOnSimplex(weights, total);
  }
  for (size_t i = 0; i < weights.size(); ++i) weights[i] += least[i];
  return weights;
}

at::Tensor GramOfGradients(const std::vector<at::Tensor>& losses, const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> rows;
  for (const at::Tensor& loss : losses) {
    const auto gradients = torch::autograd::grad({loss}, parameters, {}, /*retain_graph=*/true,
                                                 /*create_graph=*/false, /*allow_unused=*/true);
    std::vector<at::Tensor> parts;
    for (size_t p = 0; p < parameters.size(); ++p) {
      parts.push_back(gradients[p].defined() ? gradients[p].flatten()
                                             : at::zeros({parameters[p].numel()}, parameters[p].options()));
    }
    rows.push_back(at::cat(parts).to(at::kDouble));
  }
  const at::Tensor all = at::stack(rows);
  return at::mm(all, all.t()).to(at::kCPU);
}

}  // namespace anneal::losses
