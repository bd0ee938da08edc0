// Balanced assignment of rows to codes. Cuturi, "Sinkhorn Distances", NeurIPS 2013; parity/models.md 15.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace anneal::nn {

struct SinkhornSettings {
  int64_t iterations = 5;
  double epsilon = 10;  ///< how sharp
};

/// distances [B, K] float32 -> codes [B] int64, so that every code gets about as many rows: with d the distances
/// standardised over the whole matrix and shifted to at least 0, Q = exp(-epsilon d) over its sum, whose columns are
/// divided by K times their sums and then its rows by B times theirs, again and again; the code of a row is where Q is
/// largest.
at::Tensor SinkhornCodes(const at::Tensor& distances, const SinkhornSettings& settings);

}  // namespace anneal::nn
