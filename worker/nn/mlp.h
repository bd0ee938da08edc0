// The MLP block of a config's `MLP` message (parity/models.md 4.1).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/activation.h"
#include "worker/nn/linear.h"
#include "worker/nn/normalization.h"

namespace anneal::nn {

/// One layer: Linear -> (BatchNorm1d | LayerNorm) -> activation -> dropout. State names "perceptron.<j>", counting
/// only the parts that exist.
class Perceptron : public Module {
 public:
  Perceptron(int64_t in, int64_t out, const tzrec::protos::MLP& config, double dropout);
  at::Tensor Forward(const at::Tensor& x);

 private:
  Linear linear_;
  std::unique_ptr<BatchNorm1d> batch_norm_;
  std::unique_ptr<LayerNorm> layer_norm_;
  std::unique_ptr<Activation> activation_;
  double dropout_;
};

/// x [B, in] -> [B, hidden_units.back()]. Throws ConfigError for use_bn with use_ln, no hidden_units, or a
/// dropout_ratio list of another length than hidden_units.
class Mlp : public Module {
 public:
  Mlp(int64_t in, const tzrec::protos::MLP& config);
  at::Tensor Forward(at::Tensor x);
  int64_t output_dim() const { return output_dim_; }

 private:
  std::vector<std::unique_ptr<Perceptron>> layers_;
  int64_t output_dim_ = 0;
};

}  // namespace anneal::nn
