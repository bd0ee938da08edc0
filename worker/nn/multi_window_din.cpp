#include "worker/nn/multi_window_din.h"

#include <ATen/ATen.h>

#include "worker/nn/masked_attention.h"

namespace anneal::nn {

MultiWindowDin::MultiWindowDin(int64_t query_width, int64_t sequence_width, const tzrec::protos::MLP& attention,
                               const std::vector<int64_t>& windows)
    : query_width_(query_width),
      sequence_width_(sequence_width),
      windows_(windows),
      mlp_(3 * sequence_width, attention, Rows::kPositions),
      linear_(mlp_.output_dim(), 1),
      active_(MakeActivation("nn.PReLU", 1)) {
  RegisterModule("mlp", mlp_);
  RegisterModule("linear", linear_);
  RegisterModule("active", *active_);
  lengths_ = RegisterBuffer("windows_len", at::tensor(windows));
  begins_ = RegisterBuffer("cumsum_windows_len", at::cumsum(lengths_, 0) - lengths_);
}

at::Tensor MultiWindowDin::Forward(const Sequence& input) {
  const at::Tensor& s = input.sequence;
  const at::Tensor query = WidenQuery(input.query, query_width_, sequence_width_);
  const at::Tensor q = query.unsqueeze(1).expand_as(s);
  const at::Tensor triples = at::cat({s, q * s, q}, 2).flatten(0, 1);
  const at::Tensor weights = active_->Forward(linear_.Forward(mlp_.Forward(triples))).view_as(input.mask);
  const at::Tensor weighted = weights.masked_fill(input.mask.logical_not(), 0).unsqueeze(2) * s;
  std::vector<at::Tensor> sums;
  int64_t begin = 0;
  for (const int64_t window : windows_) {  // a slice ends where the positions do
    sums.push_back(weighted.slice(1, begin, begin + window).sum(1));
    begin += window;
  }
  const at::Tensor counts = at::minimum(input.length.unsqueeze(1) - begins_, lengths_).clamp_min(1);
  return at::cat({(at::stack(sums, 1) / counts.unsqueeze(2)).flatten(1), query}, 1);
}

}  // namespace anneal::nn
