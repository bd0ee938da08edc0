// The activation of an MLP layer, as the config's text names it (parity/models.md 4.1).
#pragma once

#include <memory>
#include <string>

#include "worker/nn/module.h"

namespace anneal::nn {

/// An activation of [B, hidden] or [B*T, hidden]; some have parameters (PReLU, Dice) or statistics of the batch (Dice).
class Activation : public Module {
 public:
  virtual at::Tensor Forward(const at::Tensor& x) = 0;
  virtual bool is_relu() const { return false; }     ///< true: the layer before may fuse it
  virtual bool mixes_rows() const { return false; }  ///< true: in training, a row's output depends on the others
};

/// From text: "nn.ReLU", "nn.LeakyReLU(0.2)", "nn.GELU", "nn.Sigmoid", "nn.Tanh", "nn.SiLU", "nn.ELU",
/// "nn.PReLU(num_parameters=4)", "nn.Identity", "Dice". Empty text gives null. Throws ConfigError naming the text
/// otherwise. `hidden`: columns of its input.
std::unique_ptr<Activation> MakeActivation(const std::string& text, int64_t hidden);

}  // namespace anneal::nn
