// Target attention over windows of a sequence, for TDM. Zhu et al., "Learning Tree-based Deep Model for Recommender
// Systems", KDD 2018; parity/models.md 5.
#pragma once

#include <memory>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/activation.h"
#include "worker/nn/linear.h"
#include "worker/nn/mlp.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::nn {

/// weight = PReLU(linear(mlp([s, q * s, q]))) for every position s, without a softmax. The windows follow one another
/// from the first position on; each gives the sum of its weighted positions divided by how many of them the row has (at
/// least 1). Positions behind the last window are not seen. -> [windows..., q]: [B, sequence_width * (windows + 1)].
/// State names: mlp, linear, active; buffers windows_len, cumsum_windows_len (where each window begins).
class MultiWindowDin : public SequenceEncoder {
 public:
  /// 0 < query_width <= sequence_width; there is a window.
  MultiWindowDin(int64_t query_width, int64_t sequence_width, const tzrec::protos::MLP& attention,
                 const std::vector<int64_t>& windows);
  at::Tensor Forward(const Sequence& input) override;

 private:
  int64_t query_width_, sequence_width_;
  std::vector<int64_t> windows_;
  Mlp mlp_;
  Linear linear_;
  std::unique_ptr<Activation> active_;
  at::Tensor lengths_, begins_;  ///< [windows] int64
};

}  // namespace anneal::nn
