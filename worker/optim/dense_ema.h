// Exponential moving average of the dense parameters (parity/train.md 11).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/nn/module.h"

namespace anneal::optim {

class DenseEma {
 public:
  /// `decay` in [0, 1]. Buffers (batch-norm statistics) are not averaged.
  DenseEma(double decay, std::vector<nn::NamedTensor> parameters);

  /// After an effective optimizer step. The first update copies the parameters, later ones:
  /// average = decay * average + (1 - decay) * parameter.
  void Update();

  /// Exchanges averages and live values, so that the model computes with the averages; call it again to undo. Does
  /// nothing before the first update.
  void Swap();

  /// Averages as "<parameter>//dense_ema".
  std::vector<nn::NamedTensor> State() const;
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  double decay_;
  std::vector<nn::NamedTensor> parameters_;
  std::vector<at::Tensor> averages_;
  int64_t updates_ = 0;
};

}  // namespace anneal::optim
