#include "worker/nn/hstu/action_encoder.h"

#include <ATen/ATen.h>

namespace anneal::nn::hstu {
namespace {

at::Tensor Masks(const tzrec::protos::GRSimpleActionEncoder& config) {
  std::vector<int64_t> masks(config.action_weights().begin(), config.action_weights().end());
  masks.insert(masks.end(), config.watchtime_to_action_weights().begin(), config.watchtime_to_action_weights().end());
  return at::tensor(masks, at::kLong);
}

}  // namespace

ActionEncoder::ActionEncoder(const tzrec::protos::GRSimpleActionEncoder& config)
    : thresholds_(config.watchtime_to_action_thresholds().begin(), config.watchtime_to_action_thresholds().end()),
      threshold_weights_(config.watchtime_to_action_weights().begin(), config.watchtime_to_action_weights().end()),
      masks_(RegisterBuffer("_combined_action_weights", Masks(config))) {
  const int64_t masks = masks_.size(0), width = config.action_embedding_dim();
  const double deviation = config.embedding_init_std();
  table_ = RegisterParameter("_action_embedding_table", at::randn({masks, width}) * deviation);
  target_ = RegisterParameter("_target_action_embedding_table", at::randn({1, masks * width}) * deviation);
}

at::Tensor ActionEncoder::Forward(const at::Tensor& actions, const at::Tensor& watch_times) const {
  at::Tensor bits = actions.to(at::kLong);
  for (size_t i = 0; i < thresholds_.size(); ++i)
    bits = bits.bitwise_or((watch_times >= thresholds_[i]).to(at::kLong) * threshold_weights_[i]);
  const at::Tensor has = bits.unsqueeze(1).bitwise_and(masks_) > 0;
  return (has.to(table_.scalar_type()).unsqueeze(2) * table_).flatten(1);
}

at::Tensor ActionEncoder::OfCandidates(const at::Tensor& like) const {
  return at::zeros_like(like.narrow(1, 0, 1)) + target_;
}

}  // namespace anneal::nn::hstu
