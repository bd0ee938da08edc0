// Where the tokens of a batch's rows lie (parity/models.md 14.2).
#pragma once

#include <ATen/core/Tensor.h>

namespace anneal::nn::hstu {

/// The tokens of B rows as a matrix [N, D], one row after the other; of each first `contextual` tokens, then its
/// history, then its candidates. Index tensors are int64. Traceable: nothing depends on B or N as numbers.
struct TokenLayout {
  TokenLayout(int64_t contextual, at::Tensor history, at::Tensor candidates);

  int64_t contextual;                    ///< tokens at the beginning of every row
  at::Tensor history;                    ///< [B] tokens of each row's history
  at::Tensor candidates;                 ///< [B] and of its candidates
  at::Tensor length;                     ///< [B] of all
  at::Tensor first;                      ///< [B] index of its first token
  at::Tensor row;                        ///< [N] whose each token is
  at::Tensor position;                   ///< [N] its place in the row, from 0
  at::Tensor before_candidates() const;  ///< [B] tokens that are no candidates
  /// [B] tensor -> [N]: of each token that of its row.
  at::Tensor PerToken(const at::Tensor& of_rows) const;
};

/// The rows padded to the longest, T tokens.
struct Padding {
  at::Tensor position;  ///< [T] 0, 1, 2, ...
  at::Tensor inside;    ///< [B, T] bool: the row has such a token
  at::Tensor index;     ///< [B, T] which it is of the N; 0 behind the row's end
};
Padding PaddingOf(const TokenLayout& layout);

/// [B] -> [B]: the sum of those before.
at::Tensor Starts(const at::Tensor& counts);

/// 0, 1, 2, ... as long as `like` [n], int64.
at::Tensor CountUp(const at::Tensor& like);

/// x.index_select(0, index) [n, D] where no row is taken twice: the gradient is copied, not added up.
at::Tensor TakeRows(const at::Tensor& x, const at::Tensor& index);

/// Without contextual tokens: the history's rows [sum of history, D] and the candidates' [sum of candidates, D], each
/// row of the batch after the other, as tokens [N, D].
at::Tensor JoinCandidates(const TokenLayout& layout, const at::Tensor& history, const at::Tensor& candidates);

}  // namespace anneal::nn::hstu
