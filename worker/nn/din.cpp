#include "worker/nn/din.h"

#include <ATen/ATen.h>

#include "worker/nn/masked_attention.h"

namespace anneal::nn {

Din::Din(int64_t query_width, int64_t sequence_width, const tzrec::protos::MLP& attention, int64_t max_length)
    : query_width_(query_width),
      sequence_width_(sequence_width),
      max_length_(max_length),
      mlp_(4 * sequence_width, attention, Rows::kPositions),
      linear_(mlp_.output_dim(), 1) {
  RegisterModule("mlp", mlp_);
  RegisterModule("linear", linear_);
}

at::Tensor Din::Forward(const Sequence& input) {
  const Sequence seen = Truncate(input, max_length_);
  const at::Tensor& s = seen.sequence;
  const at::Tensor q = WidenQuery(seen.query, query_width_, sequence_width_).unsqueeze(1).expand_as(s);
  const at::Tensor pairs = at::cat({q, s, q - s, q * s}, 2).flatten(0, 1);
  return Attend(linear_.Forward(mlp_.Forward(pairs)).view_as(seen.mask), seen);
}

}  // namespace anneal::nn
