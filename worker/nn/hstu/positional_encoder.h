// Where and when a token is (parity/models.md 14.3).
#pragma once

#include "tzrec/module.pb.h"
#include "worker/nn/hstu/token_layout.h"
#include "worker/nn/module.h"

namespace anneal::nn::hstu {

/// sqrt(D) x + P[place], with time encoding + S[bucket].
///
/// The place is the token's in its row, all candidates standing right behind the history; with time encoding it is
/// counted from the candidates backwards, behind those of the contextual tokens, which come first. The bucket is
/// floor(min(f(max(t_last - t, 1e-6) / time_bucket_increments), num_time_buckets)), f the square root or logarithm,
/// t_last the time of the row's last token.
class PositionalEncoder : public Module {
 public:
  PositionalEncoder(const tzrec::protos::GRPositionalEncoder& config, int64_t width);

  /// x [N, D], times [N] float32 seconds (read with time encoding only)
  at::Tensor Forward(const at::Tensor& x, const at::Tensor& times, const TokenLayout& layout) const;

 private:
  at::Tensor Places(const TokenLayout& layout) const;
  at::Tensor Buckets(const at::Tensor& times, const TokenLayout& layout) const;

  const double scale_;
  const int64_t places_, buckets_;
  const bool time_, logarithm_;
  const double increments_;
  at::Tensor position_table_, time_table_;  ///< [num_position_buckets, D], [num_time_buckets + 1, D]
};

}  // namespace anneal::nn::hstu
