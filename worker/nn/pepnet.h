// Gates that scale representations by what is known of the domain, the user and the item. Chang et al., "PEPNet:
// Parameter and Embedding Personalized Network for Infusing with Personalized Prior Information", KDD 2023;
// parity/models.md 4.5.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/nn/activation.h"
#include "worker/nn/linear.h"

namespace anneal::nn {

/// gamma * sigmoid(W2 relu(W1 x)): x [B, in] -> [B, out], each factor in (0, gamma). State names: dense_layers.{0,2}.
class GateNu : public Module {
 public:
  GateNu(int64_t in, int64_t hidden, int64_t out, double gamma);
  at::Tensor Forward(const at::Tensor& x) const;

 private:
  Linear first_, second_;
  double gamma_;
};

/// Embeddings scaled by the domain: e * GateNu([domain, e]), the gate sending e no gradient. State name: gate_nu.
class EpNet : public Module {
 public:
  EpNet(int64_t width, int64_t domain_width, int64_t hidden, double gamma);
  /// e [B, width], domain [B, domain_width] -> [B, width]
  at::Tensor Forward(const at::Tensor& e, const at::Tensor& domain) const;

 private:
  GateNu gate_;
};

/// A stack of layers per task, h <- act(W h) * GateNu([uia, e]), then dropout, from h = e; the gates send e no
/// gradient. State names, layer l of task t at index t * layers + l: linears.<i>, gate_nus.<i>, activations.<i>.
class PpNet : public Module {
 public:
  struct Layers {
    std::vector<int64_t> units;
    std::vector<double> dropout;  ///< one for each of `units`
    std::string activation;
    double gamma = 2;
  };

  PpNet(int64_t width, int64_t uia_width, int tasks, const Layers& layers);
  /// e [B, width], uia [B, uia_width] -> one [B, units.back()] per task
  std::vector<at::Tensor> Forward(const at::Tensor& e, const at::Tensor& uia) const;

 private:
  int tasks_;
  std::vector<double> dropout_;
  std::vector<std::unique_ptr<Linear>> linears_;
  std::vector<std::unique_ptr<GateNu>> gates_;
  std::vector<std::unique_ptr<Activation>> activations_;  ///< null: none
};

}  // namespace anneal::nn
