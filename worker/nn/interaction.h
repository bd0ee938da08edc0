// Pairwise dot products of fields. Naumov et al., "Deep Learning Recommendation Model for Personalization and
// Recommendation Systems", 2019; parity/models.md 4.2, InteractionArch.
#pragma once

#include <ATen/core/Tensor.h>

namespace anneal::nn {

/// v_i . v_j of all i < j, in the order of rows of the upper triangle: x [B, fields*dim] (fields side by side) ->
/// [B, fields*(fields-1)/2].
at::Tensor PairwiseDots(const at::Tensor& x, int64_t fields, int64_t dim);

}  // namespace anneal::nn
