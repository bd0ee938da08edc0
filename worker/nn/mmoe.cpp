#include "worker/nn/mmoe.h"

#include <ATen/ATen.h>

#include "worker/nn/expert_mixture.h"

namespace anneal::nn {

Mmoe::Mmoe(int64_t in, const tzrec::protos::MLP& expert_mlp, int experts, int tasks,
           const tzrec::protos::MLP* gate_mlp) {
  for (int i = 0; i < experts; ++i) {
    experts_.push_back(std::make_unique<Mlp>(in, expert_mlp));
    RegisterModule("expert_mlps." + std::to_string(i), *experts_.back());
  }
  for (int t = 0; t < tasks && gate_mlp; ++t) {
    gate_mlps_.push_back(std::make_unique<Mlp>(in, *gate_mlp));
    RegisterModule("gate_mlps." + std::to_string(t), *gate_mlps_.back());
  }
  const int64_t gate_in = gate_mlp ? gate_mlps_.front()->output_dim() : in;
  for (int t = 0; t < tasks; ++t) {
    gates_.push_back(std::make_unique<Linear>(gate_in, experts));
    RegisterModule("gate_finals." + std::to_string(t), *gates_.back());
  }
}

std::vector<at::Tensor> Mmoe::Forward(const at::Tensor& x) {
  std::vector<at::Tensor> experts, gates;
  for (auto& expert : experts_) experts.push_back(expert->Forward(x));
  for (size_t t = 0; t < gates_.size(); ++t) {
    const at::Tensor gate_input = gate_mlps_.empty() ? x : gate_mlps_[t]->Forward(x);
    gates.push_back(at::softmax(gates_[t]->Forward(gate_input), 1));  // [B, experts]
  }
  return MixExperts(experts, gates);
}

}  // namespace anneal::nn
