// Dynamic loss scaling: torch.amp.GradScaler's arithmetic (https://arxiv.org/abs/1710.03740; parity/train.md 8).
#pragma once

#include <vector>

#include "tzrec/train.pb.h"
#include "worker/nn/module.h"

namespace anneal::optim {

class GradScaler {
 public:
  /// Throws ConfigError for factors that cannot work (growth_factor <= 1, backoff_factor outside (0, 1), interval 0).
  explicit GradScaler(const tzrec::protos::GradScaler& config);

  /// What the loss is multiplied by.
  float scale() const { return scale_; }
  /// What gradients are multiplied by to undo it.
  float inverse_scale() const { return static_cast<float>(1.0 / static_cast<double>(scale_)); }

  /// Divides all gradients by the scale, in place. True when one of them has a value that is not finite.
  bool Unscale(const std::vector<nn::NamedTensor>& parameters) const;

  /// After a step: backs the scale off when a value was not finite, else grows it every growth_interval good steps. It
  /// never leaves the normal numbers; a long row of overflows is told in the log.
  void Update(bool found_inf);

  int growth_tracker() const { return growth_tracker_; }
  void Restore(float scale, int growth_tracker);

 private:
  float scale_;
  double growth_factor_, backoff_factor_;
  int growth_interval_, growth_tracker_ = 0;
  int overflows_ = 0;  ///< in a row
};

/// True when every value of the tensor is finite.
bool AllFinite(const at::Tensor& tensor);

}  // namespace anneal::optim
