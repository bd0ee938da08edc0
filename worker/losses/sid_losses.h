// Losses of models that learn codes of items (parity/models.md 7.7).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace anneal::losses {

/// Distance of vectors in the last axis, averaged over all others: "l2" the mean of squares, "l1" of absolute
/// differences, "cos" 1 - cosine. In float32.
at::Tensor MeanDistance(const std::string& type, const at::Tensor& a, const at::Tensor& b);

/// encoded [B, D], latents [B, layers, D]: w1 * distance(encoded, latents), which trains the encoder alone,
/// + w2 * the same, which trains the codebooks alone.
at::Tensor CommitmentLoss(const std::string& type, const at::Tensor& encoded, const at::Tensor& latents, double w1,
                          double w2);

}  // namespace anneal::losses
