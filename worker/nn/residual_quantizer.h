// Vectors as a code per layer. Lee et al., "Autoregressive Image Generation using Residual Quantization", CVPR 2022;
// parity/models.md 15.
#pragma once

#include <optional>
#include <vector>

#include "worker/nn/module.h"
#include "worker/nn/sinkhorn.h"

namespace anneal::nn {

struct ResidualQuantizerSettings {
  std::vector<int64_t> codebook;  ///< codes of each layer
  int64_t dim = 0;                ///< of the vectors
  bool cosine = false;            ///< distances are -cosine, otherwise squared l2
  bool normalize_residuals = false;
  bool gumbel = false;    ///< in training codes are drawn: hard Gumbel-softmax of temperature 1 over -distances
  bool rotation = false;  ///< gradients pass by a rotation instead of unchanged; not with gumbel
  std::optional<SinkhornSettings> sinkhorn;  ///< gives the codes in training, in place of the nearest; not with gumbel
};

/// r = x [B, D]; layer by layer r becomes one of length 1 (normalize_residuals), its code is the nearest row q of the
/// layer's codebook, and q goes from r to the sum of all.
///
/// The sum's gradient goes to x as if it were x, or turned and scaled as x is onto the sum (rotation; Fifty et al.,
/// "Restructuring Vector Quantization with the Rotation Trick", ICLR 2025); with gumbel to distances and codebooks.
/// State names: layers.<i>.embedding.weight, and the buffer `initted` of one true.
class ResidualQuantizer : public Module {
 public:
  explicit ResidualQuantizer(ResidualQuantizerSettings settings);

  struct Quantized {
    at::Tensor codes;    ///< [B, layers] int64
    at::Tensor latents;  ///< [B, layers, D]: the sum after each layer, whose gradient goes to the codebooks
    at::Tensor sum;      ///< [B, D]: that of all layers
  };
  Quantized Forward(const at::Tensor& x);

 private:
  at::Tensor Distances(const at::Tensor& residual, const at::Tensor& codebook) const;

  const ResidualQuantizerSettings settings_;
  std::vector<at::Tensor> codebooks_;  ///< [codes, D] of each layer
};

}  // namespace anneal::nn
