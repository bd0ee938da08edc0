// Layers of sequential transduction units (Zhai et al., ICML 2024; parity/models.md 14.3).
#pragma once

#include <memory>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/hstu/stu_attention.h"
#include "worker/nn/module.h"

namespace anneal::nn::hstu {

/// What the layers of a stack have in common beside their config.
struct StuSettings {
  int64_t contextual = 0;   ///< tokens at the beginning of each row
  int64_t max_seq_len = 1;  ///< the attention's N, unless scaling_seqlen says another
};

/// x + dropout([u | a | u norm(a)]) W_o with u, v, q, k = LN(x) W + b, u = SiLU(u), a the attention of q, k and v.
/// norm: layer norm over all heads, or each head for itself with use_group_norm.
class StuLayer : public Module {
 public:
  StuLayer(const tzrec::protos::STU& config, const StuSettings& settings);
  at::Tensor Forward(const at::Tensor& x, const TokenLayout& layout);  ///< [N, D] -> [N, D]

 private:
  at::Tensor Norm(const at::Tensor& attended) const;

  const bool group_norm_;
  const double dropout_;
  AttentionShape attention_;
  at::Tensor input_norm_weight_, input_norm_bias_;    ///< [D]
  at::Tensor uvqk_weight_, uvqk_beta_;                ///< [D, 2 H (V + A)], [2 H (V + A)]
  at::Tensor output_norm_weight_, output_norm_bias_;  ///< [H V]; with group norm [H]
  at::Tensor output_weight_;                          ///< [3 H V, D]
};

/// attn_num_layers of them. From layer attn_truncation_split_layer on, where that is set, of each row's history only
/// the last attn_truncation_tail_len tokens stay.
class StuStack : public Module {
 public:
  StuStack(const tzrec::protos::HSTU& config, const StuSettings& settings);

  /// x [N, D] of `layout`, which becomes that of the result.
  at::Tensor Forward(at::Tensor x, TokenLayout& layout);

 private:
  const size_t split_;
  const int64_t tail_;
  std::vector<std::unique_ptr<StuLayer>> layers_;
};

}  // namespace anneal::nn::hstu
