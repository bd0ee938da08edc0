#include "worker/losses/loss.h"

#include <ATen/ATen.h>

#include <sstream>

#include "worker/config/error.h"
#include "worker/losses/session_ranking.h"

namespace anneal::losses {
namespace {

using tzrec::protos::LossConfig;

/// With label smoothing s > 0: y' = y (1 - s) + 0.5 s.
at::Tensor BinaryCrossEntropy(const tzrec::protos::BinaryCrossEntropy& config, const Input& input) {
  at::Tensor label = input.label;
  const double smoothing = config.label_smoothing();
  if (smoothing > 0) label = label * (1.0 - smoothing) + 0.5 * smoothing;
  return at::binary_cross_entropy_with_logits(input.output, label, {}, {}, at::Reduction::None);
}

/// Binary cross entropy times a y (1-p)^g + (1-a) (1-y) p^g, which has no gradient itself (Lin et al., "Focal Loss for
/// Dense Object Detection").
at::Tensor BinaryFocalLoss(const tzrec::protos::BinaryFocalLoss& config, const Input& input) {
  const at::Tensor p = at::sigmoid(input.output.detach().to(at::kFloat)), y = input.label;
  const double alpha = config.alpha(), gamma = config.gamma();
  const at::Tensor focus = alpha * y * at::pow(1 - p, gamma) + (1 - alpha) * (1 - y) * at::pow(p, gamma);
  return at::binary_cross_entropy_with_logits(input.output, y, {}, {}, at::Reduction::None) * focus;
}

at::Tensor SoftmaxCrossEntropy(const Input& input, double smoothing) {
  return at::cross_entropy_loss(input.output.to(at::kFloat), input.label.to(at::kLong), {}, at::Reduction::None, -100,
                                smoothing);
}

at::Tensor RowLoss(const LossConfig& config, const Input& input) {
  switch (config.loss_case()) {
    case LossConfig::kBinaryCrossEntropy:
      return BinaryCrossEntropy(config.binary_cross_entropy(), input);
    case LossConfig::kBinaryFocalLoss:
      return BinaryFocalLoss(config.binary_focal_loss(), input);
    case LossConfig::kSoftmaxCrossEntropy:
      return SoftmaxCrossEntropy(input, config.softmax_cross_entropy().label_smoothing());
    case LossConfig::kJrcLoss: {
      const double alpha = config.jrc_loss().alpha();
      return alpha * SoftmaxCrossEntropy(input, 0) +
             (1 - alpha) * SessionRanking(input.output.to(at::kFloat), input.label, input.sessions);
    }
    case LossConfig::kL2Loss:
      return at::mse_loss(input.output.to(at::kFloat), input.label, at::Reduction::None);
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

Output OutputOf(const LossConfig& config) {
  switch (config.loss_case()) {
    case LossConfig::kBinaryCrossEntropy:
    case LossConfig::kBinaryFocalLoss:
      return Output::kBinary;
    case LossConfig::kSoftmaxCrossEntropy:
    case LossConfig::kJrcLoss:
      return Output::kClasses;
    case LossConfig::kL2Loss:
      return Output::kValue;
    default:
      throw ConfigError("losses." + Name(config) + ": not supported yet");
  }
}

void Check(const LossConfig& config, int num_class) {
  std::string needed;
  if (config.has_jrc_loss()) {
    if (num_class != 2) needed = "2";
  } else if (OutputOf(config) == Output::kClasses) {
    if (num_class < 2) needed = "at least 2";
  } else if (num_class != 1) {
    needed = "1";
  }
  if (!needed.empty()) {
    throw ConfigError("losses." + Name(config) + ": num_class must be " + needed + ", it is " +
                      std::to_string(num_class));
  }
}

void CheckLabels(const LossConfig& config, const at::Tensor& label, int num_class, const std::string& column) {
  if (OutputOf(config) != Output::kClasses) return;
  const at::Tensor wrong = at::logical_not((label >= 0).logical_and(label < num_class));
  if (!wrong.any().item<bool>()) return;
  std::ostringstream text;
  text << "label column " << column << " holds " << label.masked_select(wrong)[0].item<float>() << "; num_class "
       << num_class << " allows 0 to " << num_class - 1;
  throw DataError(text.str());
}

std::string SessionName(const LossConfig& config) {
  return config.has_jrc_loss() ? config.jrc_loss().session_name() : "";
}

at::Tensor Compute(const LossConfig& config, const Input& input) {
  const at::Tensor rows = RowLoss(config, input);
  return input.weights.defined() ? (rows * input.weights).mean() : rows.mean();
}

}  // namespace anneal::losses
