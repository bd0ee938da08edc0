#include "worker/nn/din.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include "worker/nn/masked_attention.h"
#include "worker/nn/position_pairs.h"

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
  const at::Tensor query = WidenQuery(seen.query, query_width_, sequence_width_);
  return Attend(SeesPositionsAlone(seen) ? ScorePositions(query, seen) : ScoreAll(query, seen), seen);
}

// Most positions of a batch are padding, whose scores nobody reads.
bool Din::SeesPositionsAlone(const Sequence& input) const {
  const at::Tensor& s = input.sequence;
  return !mlp_.mixes_rows() && s.is_cpu() && s.scalar_type() == at::kFloat && s.stride(2) == 1 &&
         !torch::jit::tracer::isTracing();
}

at::Tensor Din::ScorePositions(const at::Tensor& query, const Sequence& input) {
  const at::Tensor pairs = PairPositions(query.to(at::kFloat).contiguous(), input);
  if (pairs.size(0) == 0) return at::zeros(input.mask.sizes(), input.sequence.options());
  return SpreadPositions(linear_.Forward(mlp_.Forward(pairs)), input);
}

at::Tensor Din::ScoreAll(const at::Tensor& query, const Sequence& input) {
  const at::Tensor& s = input.sequence;
  const at::Tensor q = query.unsqueeze(1).expand_as(s);
  const at::Tensor pairs = at::cat({q, s, q - s, q * s}, 2).flatten(0, 1);
  return linear_.Forward(mlp_.Forward(pairs)).view_as(input.mask);
}

}  // namespace anneal::nn
