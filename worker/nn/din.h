// Target attention over a sequence. Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018;
// parity/models.md 5.
#pragma once

#include "tzrec/module.pb.h"
#include "worker/nn/linear.h"
#include "worker/nn/mlp.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::nn {

/// score = linear(mlp([q, s, q - s, q * s])) for every position s, q being the query widened with zeros to the
/// sequence's width; softmax over the row's positions; the weighted sum of s: [B, sequence_width].
/// Batch norm and Dice in the MLP take all B*T positions for their statistics, those behind a row's end too.
/// State names: mlp, linear.
class Din : public SequenceEncoder {
 public:
  /// 0 < query_width <= sequence_width. `max_length` > 0: positions from there on are not seen.
  Din(int64_t query_width, int64_t sequence_width, const tzrec::protos::MLP& attention, int64_t max_length = 0);
  at::Tensor Forward(const Sequence& input) override;

 private:
  bool SeesPositionsAlone(const Sequence& input) const;
  /// Scores [B, T], of the rows' own positions or of all.
  at::Tensor ScorePositions(const at::Tensor& query, const Sequence& input);
  at::Tensor ScoreAll(const at::Tensor& query, const Sequence& input);

  int64_t query_width_, sequence_width_, max_length_;
  Mlp mlp_;
  Linear linear_;
};

}  // namespace anneal::nn
