// Losses of a prediction head (parity/models.md 7.1). Add one: its formula here, its name in Name() and Kind().
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "tzrec/loss.pb.h"

namespace anneal::losses {

/// The oneof's field name, what logs and TensorBoard call the loss: "binary_cross_entropy".
std::string Name(const tzrec::protos::LossConfig& config);

/// What a loss makes of a head's output, and how many columns the output may have (parity/models.md 6).
enum class Output {
  kBinary,   ///< num_class 1: logits, probs = sigmoid
  kClasses,  ///< num_class above 1: logits, probs = softmax, probs1 = its column 1 when there are two
  kValue,    ///< num_class 1: y
};
Output OutputOf(const tzrec::protos::LossConfig& config);

/// Throws ConfigError when the loss is not supported yet or does not fit a head of num_class outputs.
void Check(const tzrec::protos::LossConfig& config, int num_class);

/// The sparse feature whose first id is the session of a row (jrc_loss); empty for the others.
std::string SessionName(const tzrec::protos::LossConfig& config);

/// Throws DataError for a label that is no class of a head of num_class outputs, naming the label's column. `label`:
/// [B] float32 on the host.
void CheckLabels(const tzrec::protos::LossConfig& config, const at::Tensor& label, int num_class,
                 const std::string& column);

/// What a loss is computed from.
struct Input {
  at::Tensor output;    ///< [B] or, of several classes, [B, num_class]
  at::Tensor label;     ///< [B] float32: 0 or 1, the index of a class (CheckLabels), or the value
  at::Tensor weights;   ///< [B] float32 or undefined
  at::Tensor sessions;  ///< [B] int64, for a loss with a SessionName: NumberSessions of its ids
};

/// Scalar: the mean over rows of (row loss * weight). On a device nothing waits for it.
at::Tensor Compute(const tzrec::protos::LossConfig& config, const Input& input);

}  // namespace anneal::losses
