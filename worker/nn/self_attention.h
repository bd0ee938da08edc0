// Multi-head self attention over a sequence. Vaswani et al., "Attention Is All You Need", NeurIPS 2017;
// parity/models.md 5.
#pragma once

#include "tzrec/seq_encoder.pb.h"
#include "worker/nn/linear.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::nn {

/// Queries, keys and values are projected twice (_query, _key, _value, then those of torch.nn.MultiheadAttention,
/// _multihead_attn) and attended to within the row; the sum of the outputs divided by the row's length (at least 1, of
/// the row before it was cut to max_seq_length): [B, multihead_attn_dim]. A query behind the row's end counts as zero.
/// TorchEasyRec computes it as NaN and replaces that, with gradients that stay NaN.
class SelfAttention : public SequenceEncoder {
 public:
  /// multihead_attn_dim is a multiple of num_heads.
  SelfAttention(int64_t sequence_width, const tzrec::protos::SelfAttentionEncoder& config);
  at::Tensor Forward(const Sequence& input) override;

 private:
  int64_t width_, heads_, max_length_;
  double dropout_;
  Linear query_, key_, value_;
  at::Tensor in_weight_, in_bias_;  ///< [3 width, width], [3 width]: of queries, keys, values
  Linear out_;
};

}  // namespace anneal::nn
