// The positions of padded sequences beside their rows' queries, without the padding: what target attention scores.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/nn/sequence_encoder.h"

namespace anneal::nn {

/// [q, s, q - s, q * s] of every position s before its row's end, row after row, in one pass: [N, 4 D] with N the sum
/// of the lengths. query [B, D], input.sequence [B, T, D], both float32 on the CPU.
at::Tensor PairPositions(const at::Tensor& query, const Sequence& input);

/// Numbers of those positions [N, 1] back in their places: [B, T] float32, zeros behind the ends.
at::Tensor SpreadPositions(const at::Tensor& values, const Sequence& input);

}  // namespace anneal::nn
