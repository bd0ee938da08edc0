#include "worker/losses/loss.h"

#include <ATen/ATen.h>

#include "worker/config/error.h"

namespace anneal::losses {
namespace {

using tzrec::protos::LossConfig;

// With label smoothing s > 0: y' = y (1 - s) + 0.5 s.
at::Tensor BinaryCrossEntropy(const tzrec::protos::BinaryCrossEntropy& config, const at::Tensor& logits,
                              at::Tensor label, at::Reduction::Reduction reduction) {
  const double smoothing = config.label_smoothing();
  if (smoothing > 0) label = label * (1.0 - smoothing) + 0.5 * smoothing;
  return at::binary_cross_entropy_with_logits(logits, label, {}, {}, reduction);
}

at::Tensor RowLoss(const LossConfig& config, const at::Tensor& logits, const at::Tensor& label,
                   at::Reduction::Reduction reduction) {
  switch (config.loss_case()) {
    case LossConfig::kBinaryCrossEntropy:
      return BinaryCrossEntropy(config.binary_cross_entropy(), logits, label, reduction);
    default:
      throw ConfigError("losses." + Name(config) + ": not supported yet");
  }
}

}  // namespace

std::string Name(const LossConfig& config) {
  for (const char* oneof : {"loss", "sid_loss"}) {
    const auto* descriptor = config.GetDescriptor()->FindOneofByName(oneof);
    if (const auto* field = config.GetReflection()->GetOneofFieldDescriptor(config, descriptor)) return field->name();
  }
  throw ConfigError("losses: an entry names no loss");
}

void Check(const LossConfig& config, int num_class) {
  const std::string name = Name(config);
  if (config.loss_case() != LossConfig::kBinaryCrossEntropy) {
    throw ConfigError("losses." + name + ": not supported yet");
  }
  if (num_class != 1) {
    throw ConfigError("losses." + name + ": num_class must be 1, it is " + std::to_string(num_class));
  }
}

at::Tensor Compute(const LossConfig& config, const at::Tensor& logits, const at::Tensor& label,
                   const at::Tensor& row_weights) {
  if (!row_weights.defined()) return RowLoss(config, logits, label, at::Reduction::Mean);
  return (RowLoss(config, logits, label, at::Reduction::None) * row_weights).mean();
}

}  // namespace anneal::losses
