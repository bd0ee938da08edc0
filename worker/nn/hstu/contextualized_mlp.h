// MLPs on tokens, which may depend on the row's context (parity/models.md 14.2).
#pragma once

#include <memory>

#include "tzrec/module.pb.h"
#include "worker/nn/hstu/token_layout.h"
#include "worker/nn/linear.h"
#include "worker/nn/normalization.h"

namespace anneal::nn::hstu {

/// x sigmoid(LayerNorm(x))
class SwishLayerNorm : public LayerNorm {
 public:
  using LayerNorm::LayerNorm;
  at::Tensor Forward(const at::Tensor& x) const;
};

/// Linear, SwishLayerNorm, Linear, and LayerNorm where `normed`: [n, in] -> [n, out]. State names "0" ... "3".
class SwishMlp : public Module {
 public:
  SwishMlp(int64_t in, int64_t hidden, int64_t out, bool normed = true);
  at::Tensor Forward(const at::Tensor& x) const;

 private:
  Linear first_;
  SwishLayerNorm swish_;
  Linear second_;
  std::unique_ptr<LayerNorm> norm_;
};

class ContextualizedMlp : public Module {
 public:
  /// tokens [N, in] of the layout, contextual [B, W] -> [N, out]
  virtual at::Tensor Forward(const at::Tensor& tokens, const TokenLayout& layout, const at::Tensor& contextual) = 0;
};

/// `contextual_width`: W. simple_mlp: a SwishMlp ("_mlp") of the tokens alone. parameterized_mlp: a matrix and a bias
/// of each row's own, made from its context after dropout: c = Linear(context) (_dense_features_compress); matrix
/// LayerNorm2d(Linear(c)) (_attn_raw_weights.0, _attn_weights_norm), bias SwishMlp(c) (_res_weights).
std::unique_ptr<ContextualizedMlp> MakeContextualizedMlp(const tzrec::protos::GRContextualizedMLP& config, int64_t in,
                                                         int64_t out, int64_t contextual_width);

}  // namespace anneal::nn::hstu
