// The ranking part of the joint ranking and calibration loss (Sheng et al., "Joint Optimization of Ranking and
// Calibration with Contextualized Hybrid Model"; parity/models.md 7.1).
#pragma once

#include <ATen/core/Tensor.h>

namespace anneal::losses {

/// Sessions by number, from 0 to at most B - 1, of their ids [B] int64.
at::Tensor NumberSessions(const at::Tensor& ids);

/// Row losses [B] float32 of logits [B, 2] float32, labels [B] (1 or not) and numbered sessions [B] int64. A row of
/// label y competes by its logit of column y with the rows of the other label in its session: softmax cross entropy
/// whose target is the row itself. A row without such rows has loss 0. Time and memory are linear in B.
at::Tensor SessionRanking(const at::Tensor& logits, const at::Tensor& label, const at::Tensor& sessions);

}  // namespace anneal::losses
