// grad_clipping: bounds the gradients of all dense parameters together (parity/train.md 10).
#pragma once

#include <vector>

#include "tzrec/train.pb.h"
#include "worker/nn/module.h"

namespace anneal::optim {

class GradientClipping {
 public:
  /// Throws ConfigError when clipping_type, upper-cased, is not NORM, VALUE or NONE.
  explicit GradientClipping(const tzrec::protos::GradClipping& config);

  /// NORM: all gradients times min(1, max_gradient / (norm + 1e-6)), norm of order norm_type over all of them.
  /// VALUE: each element clamped to [-max_gradient, max_gradient]. In place; parameters without a gradient are left.
  void Apply(const std::vector<nn::NamedTensor>& parameters) const;

 private:
  enum class Type { kNone, kNorm, kValue };
  Type type_ = Type::kNone;
  double bound_ = 0, norm_type_ = 2;
};

/// Norm of order `norm_type` over the gradients of all parameters; 0 when none has one.
double GradientNorm(const std::vector<nn::NamedTensor>& parameters, double norm_type = 2);

}  // namespace anneal::optim
