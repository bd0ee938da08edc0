// What a user did, as a vector (parity/models.md 14.2).
#pragma once

#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/module.h"

namespace anneal::nn::hstu {

/// Of K masks of action bits, those of action_weights and of watchtime_to_action_weights, each has a learned vector: an
/// action's is [bit_1 E_1 | ... | bit_K E_K], where bit_k says whether the action has any bit of mask k. A watch time
/// of at least watchtime_to_action_thresholds[j] adds the bits of watchtime_to_action_weights[j]. What will be done to
/// a candidate is not known: all of them have one learned vector.
class ActionEncoder : public Module {
 public:
  explicit ActionEncoder(const tzrec::protos::GRSimpleActionEncoder& config);

  /// actions [n] of integers as float32, watch_times [n] (undefined where there are no thresholds) -> [n, width()]
  at::Tensor Forward(const at::Tensor& actions, const at::Tensor& watch_times) const;
  /// -> [n, width()], n the rows of `like`
  at::Tensor OfCandidates(const at::Tensor& like) const;
  int64_t width() const { return target_.size(1); }
  bool reads_watch_times() const { return !thresholds_.empty(); }

 private:
  const std::vector<int64_t> thresholds_, threshold_weights_;
  at::Tensor masks_;           ///< [K] int64
  at::Tensor table_, target_;  ///< [K, action_embedding_dim], [1, K action_embedding_dim]
};

}  // namespace anneal::nn::hstu
