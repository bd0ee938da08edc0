#include "worker/nn/residual_quantizer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "worker/nn/unit_length.h"

namespace anneal::nn {
namespace {

/// x turned and scaled onto `target`, both [B, D], by a map that is constant for gradients.
at::Tensor Rotate(const at::Tensor& x, const at::Tensor& target) {
  const at::Tensor from = UnitLength(x.detach()), to = UnitLength(target.detach());
  const at::Tensor between = UnitLength(from + to);
  const auto length = [](const at::Tensor& v) { return v.detach().norm(2, 1, /*keepdim=*/true).clamp_min(1e-12); };
  const auto dot = [](const at::Tensor& a, const at::Tensor& b) { return (a * b).sum(1, /*keepdim=*/true); };
  return (x - 2 * dot(x, between) * between + 2 * dot(x, from) * to) * (length(target) / length(x));
}

}  // namespace

ResidualQuantizer::ResidualQuantizer(ResidualQuantizerSettings settings) : settings_(std::move(settings)) {
  const double bound = std::sqrt(6.0 / static_cast<double>(settings_.dim));  // Kaiming's
  for (size_t i = 0; i < settings_.codebook.size(); ++i) {
    codebooks_.push_back(
        RegisterParameter("layers." + std::to_string(i) + ".embedding.weight",
                          at::empty({settings_.codebook[i], settings_.dim}, at::kFloat).uniform_(-bound, bound)));
  }
  RegisterBuffer("initted", at::ones({1}, at::kBool));
}

at::Tensor ResidualQuantizer::Distances(const at::Tensor& residual, const at::Tensor& codebook) const {
  if (settings_.cosine) return -at::matmul(UnitLength(residual), UnitLength(codebook).t());
  return residual.square().sum(1, /*keepdim=*/true) + codebook.square().sum(1) - 2 * at::matmul(residual, codebook.t());
}

ResidualQuantizer::Quantized ResidualQuantizer::Forward(const at::Tensor& x) {
  std::vector<at::Tensor> codes, latents;
  at::Tensor residual = x, sum;
  for (const at::Tensor& codebook : codebooks_) {
    if (settings_.normalize_residuals) residual = UnitLength(residual);
    const at::Tensor distances = Distances(residual, codebook);
    at::Tensor code, found;
    if (training() && settings_.gumbel) {
      const at::Tensor gumbel = -at::log(-at::log(at::rand_like(distances)));
      const at::Tensor soft = at::softmax(gumbel - distances, 1);
      code = soft.argmax(1);
      const at::Tensor hard = at::zeros_like(soft).scatter(1, code.unsqueeze(1), 1.0);
      found = at::matmul(hard - soft.detach() + soft, codebook);
    } else {
      code = training() && settings_.sinkhorn ? SinkhornCodes(distances, *settings_.sinkhorn) : distances.argmin(1);
      found = codebook.index_select(0, code);
    }
    residual = residual - found.detach();
    sum = sum.defined() ? sum + found : found;
    codes.push_back(code);
    latents.push_back(sum);
  }
  if (!settings_.gumbel) sum = settings_.rotation ? Rotate(x, sum) : x + (sum - x).detach();
  return {at::stack(codes, 1), at::stack(latents, 1), sum};
}

}  // namespace anneal::nn
