// Behaviour-to-interest dynamic routing (Li et al., "Multi-Interest Network with Dynamic Routing", CIKM 2019;
// parity/models.md 11).
#pragma once

#include "tzrec/module.pb.h"
#include "worker/nn/sequence_encoder.h"

namespace anneal::nn {

/// State names: bilinear_matrix [in, high_dim].
class CapsuleLayer : public Module {
 public:
  CapsuleLayer(int64_t in, const tzrec::protos::B2ICapsule& config);

  struct Output {
    at::Tensor capsules;  ///< [B, max_k, high_dim]
    at::Tensor active;    ///< [B, max_k] bool: a row of L positions has log2(L) capsules, at least 1, rounded up
  };
  /// Of a history's positions [B, T, in] with its length and mask. Routing starts from random logits in training; in
  /// inference, where a user shall get the same interests every time, from numbers drawn once.
  Output Forward(const Sequence& history);

 private:
  /// [B, max_k, T], or what broadcasts to it
  at::Tensor FirstLogits(const Sequence& history) const;
  at::Tensor Squash(const at::Tensor& capsules) const;

  const tzrec::protos::B2ICapsule config_;
  at::Tensor bilinear_;
  at::Tensor drawn_;  ///< [max_seq_len, max_k] on the host
};

}  // namespace anneal::nn
