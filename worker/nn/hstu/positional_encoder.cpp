#include "worker/nn/hstu/positional_encoder.h"

#include <ATen/ATen.h>

#include <cmath>

namespace anneal::nn::hstu {
namespace {

at::Tensor Table(int64_t rows, int64_t width, int64_t of) {
  const double bound = std::sqrt(1.0 / static_cast<double>(of));
  return at::empty({rows, width}, at::kFloat).uniform_(-bound, bound);
}

}  // namespace

PositionalEncoder::PositionalEncoder(const tzrec::protos::GRPositionalEncoder& config, int64_t width)
    : scale_(std::sqrt(static_cast<double>(width))),
      places_(config.num_position_buckets()),
      buckets_(config.num_time_buckets()),
      time_(config.use_time_encoding()),
      logarithm_(config.time_bucket_fn() == "log"),
      increments_(config.time_bucket_increments()) {
  position_table_ = RegisterParameter("_position_embeddings_weight", Table(places_, width, places_));
  if (time_) time_table_ = RegisterParameter("_timestamp_embeddings_weight", Table(buckets_ + 1, width, buckets_));
}

at::Tensor PositionalEncoder::Places(const TokenLayout& layout) const {
  const at::Tensor before = layout.PerToken(layout.before_candidates());
  const at::Tensor place = at::minimum(layout.position, before);
  if (!time_) return place.clamp_max(places_ - 1);
  const at::Tensor backwards = (before - place + layout.contextual).clamp_max(places_ - 1);
  return at::where(layout.position < layout.contextual, layout.position.clamp_max(places_ - 1), backwards);
}

at::Tensor PositionalEncoder::Buckets(const at::Tensor& times, const TokenLayout& layout) const {
  const at::Tensor last = times.index_select(0, (layout.first + layout.length - 1).clamp_min(0));
  const at::Tensor apart = (layout.PerToken(last) - times).clamp_min(1e-6) / increments_;
  const at::Tensor grown = logarithm_ ? apart.log() : apart.sqrt();
  const auto most = static_cast<double>(buckets_);
  return ((grown / most).clamp(0, 1) * most).to(at::kLong);
}

at::Tensor PositionalEncoder::Forward(const at::Tensor& x, const at::Tensor& times, const TokenLayout& layout) const {
  const at::Tensor placed = x * scale_ + at::embedding(position_table_, Places(layout));
  return time_ ? placed + at::embedding(time_table_, Buckets(times, layout)) : placed;
}

}  // namespace anneal::nn::hstu
