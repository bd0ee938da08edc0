// Losses of a prediction head (parity/models.md 7.1). Add one: its formula here, its name in Name() and Check().
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "tzrec/loss.pb.h"

namespace anneal::losses {

/// The oneof's field name, what logs and TensorBoard call the loss: "binary_cross_entropy".
std::string Name(const tzrec::protos::LossConfig& config);

/// Throws ConfigError when the loss is not supported yet or does not fit a head of num_class outputs.
void Check(const tzrec::protos::LossConfig& config, int num_class);

/// Scalar mean loss. logits [B] float32, label [B] float32, row_weights [B] float32 or undefined (plain mean);
/// with weights: mean(row loss * weight).
at::Tensor Compute(const tzrec::protos::LossConfig& config, const at::Tensor& logits, const at::Tensor& label,
                   const at::Tensor& row_weights);

}  // namespace anneal::losses
