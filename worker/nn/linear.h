// Fully connected layer, optionally with a fused ReLU.
#pragma once

#include "worker/nn/module.h"

namespace anneal::nn {

/// y = x W^T + b; x [..., in] float32, W [out, in], b [out]. Initialised as torch.nn.Linear: both uniform in
/// (-1/sqrt(in), 1/sqrt(in)).
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool bias = true);

  at::Tensor Forward(const at::Tensor& x) const;
  /// relu(Forward(x)) as one operation.
  at::Tensor ForwardRelu(const at::Tensor& x) const;
  const at::Tensor& weight() const { return weight_; }

  /// Another initial value of the bias.
  void ZeroBias();

 private:
  at::Tensor weight_, bias_;
};

}  // namespace anneal::nn
