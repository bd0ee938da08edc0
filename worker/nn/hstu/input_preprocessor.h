// Context, history and candidates as the tokens that a transducer reads (parity/models.md 14.2).
#pragma once

#include <memory>

#include "tzrec/module.pb.h"
#include "worker/nn/hstu/action_encoder.h"
#include "worker/nn/hstu/content_encoder.h"
#include "worker/nn/hstu/contextualized_mlp.h"
#include "worker/nn/hstu/token_layout.h"

namespace anneal::nn::hstu {

/// A batch of B rows. Matrices of the history's and of the candidates' elements lie row after row.
struct RankingInput {
  at::Tensor contextual;                        ///< [B, slots * slot width]
  at::Tensor history, candidates;               ///< [sum of lengths, width]
  at::Tensor history_length, candidate_length;  ///< [B] int64
  at::Tensor actions, watch_times;              ///< [sum of history_length] float32, or undefined
  at::Tensor history_times, candidate_times;    ///< float32 seconds of each element, or undefined
};

/// Widths of a RankingInput.
struct RankingWidths {
  int64_t slots = 1, slot = 0;  ///< contextual tokens, and columns of the context that each is made from
  int64_t history = 0, candidates = 0;
  int64_t contextual() const { return slots * slot; }
};

struct Tokens {
  at::Tensor x;      ///< [N, D]
  at::Tensor times;  ///< [N] float32, 0 of contextual tokens; undefined where the input has no times
  TokenLayout layout;
};

/// Each row: a token of every contextual slot, by a matrix and a bias of its own; then of every element of the history
/// and of the candidates content_mlp(content) + action_mlp(action). The interleaving kind makes two tokens of an
/// element instead, its content and, behind it, its action; outside of training, and without enable_interleaving, of a
/// candidate its content alone.
class InputPreprocessor : public Module {
 public:
  InputPreprocessor(const tzrec::protos::GRInputPreprocessor& config, const RankingWidths& widths, int64_t out);

  Tokens Forward(const RankingInput& input);
  /// Tokens of a candidate, of which the first one is judged.
  int64_t tokens_per_candidate() const { return interleaves_ && doubles_candidates_ && training() ? 2 : 1; }
  bool reads_actions() const { return actions_ != nullptr; }
  bool reads_watch_times() const { return actions_ && actions_->reads_watch_times(); }

 private:
  /// A row's history and candidates, one after the other: one token of each element, or its two.
  at::Tensor Body(const RankingInput& input, const TokenLayout& elements);
  at::Tensor ContextualTokens(const at::Tensor& contextual) const;

  const RankingWidths widths_;
  const bool interleaves_;
  bool doubles_candidates_ = false;
  std::unique_ptr<ActionEncoder> actions_;
  std::unique_ptr<ContextualizedMlp> action_mlp_;
  std::unique_ptr<ContentEncoder> content_;
  std::unique_ptr<ContextualizedMlp> content_mlp_;
  at::Tensor contextual_weight_, contextual_bias_;  ///< [slots, slot, D], [slots, 1, D]
};

}  // namespace anneal::nn::hstu
