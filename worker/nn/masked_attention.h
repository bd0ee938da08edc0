// What encoders that weigh the positions of a padded sequence share.
#pragma once

#include <string>

#include "worker/nn/sequence_encoder.h"

namespace anneal::nn {

/// At most `positions` positions of every row; 0 or less: all of them.
Sequence Truncate(const Sequence& input, int64_t positions);

/// The query widened with zeros on the right: [B, Dq] -> [B, sequence_width].
at::Tensor WidenQuery(const at::Tensor& query, int64_t query_width, int64_t sequence_width);

/// Softmax of scores [..., T] over the positions of the mask (of any shape that broadcasts to theirs), as float32; zero
/// behind them. A row without positions gets the same number everywhere, not NaN.
at::Tensor MaskedSoftmax(const at::Tensor& scores, const at::Tensor& mask);

/// Softmax of the scores [B, T] over each row's own positions, then the sum of the sequence weighted by it: [B, Ds].
/// Zeros for a row without positions.
at::Tensor Attend(const at::Tensor& scores, const Sequence& input);

/// Throws ConfigError beginning with `where` when there is no query, or a wider one than the sequence.
void RequireQuery(int64_t query_width, int64_t sequence_width, const std::string& where);

}  // namespace anneal::nn
