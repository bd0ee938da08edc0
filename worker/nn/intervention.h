// A representation moved, within a subspace of low rank, towards where another one is. After Wu et al., "ReFT:
// Representation Finetuning for Language Models", NeurIPS 2024; parity/models.md 10.5.
#pragma once

#include "worker/nn/module.h"

namespace anneal::nn {

/// x R, R [in, rank] with orthonormal columns: x [B, in] -> [B, rank], in > rank. R = B H(X) as
/// torch.nn.utils.parametrizations.orthogonal makes it: H(X) the product of the Householder reflections below X's
/// diagonal, its columns with the diagonal's signs. State names: parametrizations.weight.original, X;
/// parametrizations.weight.0.base, B [in, in] orthogonal, not trained.
class Rotation : public Module {
 public:
  Rotation(int64_t in, int64_t rank);
  at::Tensor Matrix() const;  ///< R

 private:
  at::Tensor base_, original_;
};

/// dropout((base Rb - source Rs) Rb^T + base); the source gets no gradient. base [B, in], source [B, source_in] -> [B,
/// in]. State names: base_rotate_layer, source_rotate_layer.
class Intervention : public Module {
 public:
  Intervention(int64_t in, int64_t source_in, int64_t rank, double dropout);
  at::Tensor Forward(const at::Tensor& base, const at::Tensor& source) const;

 private:
  Rotation base_, source_;
  const double dropout_;
};

}  // namespace anneal::nn
