// The attention of an STU: no softmax (Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential
// Transducers for Generative Recommendations", ICML 2024; parity/models.md 14.3).
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/nn/hstu/token_layout.h"

namespace anneal::nn::hstu {

/// Which tokens of its row a token sees.
///
/// Usually: itself, and every token before it that is no candidate; of those, where max_attn_len > 0, the last
/// max_attn_len (a candidate counts as standing right behind the history), and contextual ones only where these reach
/// into them. Contextual tokens see all tokens that are no candidates.
///
/// Semi-local, where sla_k1 or sla_k2 is more than 0: of tokens 0 ... itself the first K2 = max(sla_k2, contextual)
/// and the last sla_k1. A candidate sees all tokens that are no candidates, but not itself.
struct Visibility {
  int64_t contextual = 0;  ///< tokens at the beginning that count as contextual
  int64_t max_attn_len = 0;
  int64_t sla_k1 = 0, sla_k2 = 0;
};

struct AttentionShape {
  int64_t heads = 1;
  int64_t value_width = 1, query_width = 1;  ///< of a head: V, A
  double alpha = 1;                          ///< scores are multiplied by it
  double divisor = 1;                        ///< N
  Visibility visibility;
};

/// sum over the tokens j that token i sees of SiLU(alpha q_i k_j) / N v_j, for every head: [N, H V] of values, queries
/// and keys side by side [N, H (V + A + A)], in float32.
///
/// On the CPU rows are taken in the order of their lengths, as many at a time and as many queries of them at a time
/// that no tensor of scores has more than 4 million numbers (16 MiB); backward computes the scores again. Elsewhere,
/// and in a trace, all rows are padded to the longest at once.
at::Tensor Attend(const at::Tensor& values_queries_keys, const TokenLayout& layout, const AttentionShape& shape);

/// The same by stock operations, without chunks.
at::Tensor AttendByIndex(const at::Tensor& values_queries_keys, const TokenLayout& layout, const AttentionShape& shape);

}  // namespace anneal::nn::hstu
