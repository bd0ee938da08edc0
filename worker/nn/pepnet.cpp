#include "worker/nn/pepnet.h"

#include <ATen/ATen.h>

namespace anneal::nn {

GateNu::GateNu(int64_t in, int64_t hidden, int64_t out, double gamma)
    : first_(in, hidden), second_(hidden, out), gamma_(gamma) {
  RegisterModule("dense_layers.0", first_);
  RegisterModule("dense_layers.2", second_);
}

at::Tensor GateNu::Forward(const at::Tensor& x) const {
  return at::sigmoid(second_.Forward(first_.ForwardRelu(x))) * gamma_;
}

EpNet::EpNet(int64_t width, int64_t domain_width, int64_t hidden, double gamma)
    : gate_(domain_width + width, hidden, width, gamma) {
  RegisterModule("gate_nu", gate_);
}

at::Tensor EpNet::Forward(const at::Tensor& e, const at::Tensor& domain) const {
  return e * gate_.Forward(at::cat({domain, e.detach()}, 1));
}

PpNet::PpNet(int64_t width, int64_t uia_width, int tasks, const Layers& layers)
    : tasks_(tasks), dropout_(layers.dropout) {
  for (int t = 0; t < tasks; ++t) {
    int64_t in = width;
    for (const int64_t out : layers.units) {
      const std::string index = std::to_string(linears_.size());
      linears_.push_back(std::make_unique<Linear>(in, out));
      gates_.push_back(std::make_unique<GateNu>(uia_width + width, out, out, layers.gamma));
      activations_.push_back(MakeActivation(layers.activation, out));
      RegisterModule("linears." + index, *linears_.back());
      RegisterModule("gate_nus." + index, *gates_.back());
      if (activations_.back()) RegisterModule("activations." + index, *activations_.back());
      in = out;
    }
  }
}

std::vector<at::Tensor> PpNet::Forward(const at::Tensor& e, const at::Tensor& uia) const {
  const at::Tensor prior = at::cat({uia, e.detach()}, 1);
  std::vector<at::Tensor> tasks(tasks_, e);
  size_t i = 0;
  for (at::Tensor& h : tasks) {
    for (size_t l = 0; l < dropout_.size(); ++l, ++i) {
      Activation* const activation = activations_[i].get();
      if (activation && activation->is_relu()) {
        h = linears_[i]->ForwardRelu(h);
      } else {
        h = linears_[i]->Forward(h);
        if (activation) h = activation->Forward(h);
      }
      h = h * gates_[i]->Forward(prior);
      if (dropout_[l] > 0 && training()) h = at::dropout(h, dropout_[l], true);
    }
  }
  return tasks;
}

}  // namespace anneal::nn
