// Multi-gate mixture of experts. Ma et al., KDD 2018; parity/models.md 4.3.
#pragma once

#include <memory>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/linear.h"
#include "worker/nn/mlp.h"

namespace anneal::nn {

/// x [B, in] -> one [B, expert width] per task: softmax(gate_t) weighted sum of the experts.
/// State names: expert_mlps.<i>, gate_mlps.<t> (with gate_mlp only), gate_finals.<t>.
class Mmoe : public Module {
 public:
  /// `gate_mlp` may be null.
  Mmoe(int64_t in, const tzrec::protos::MLP& expert_mlp, int experts, int tasks, const tzrec::protos::MLP* gate_mlp);
  std::vector<at::Tensor> Forward(const at::Tensor& x);
  int64_t output_dim() const { return experts_.front()->output_dim(); }

 private:
  std::vector<std::unique_ptr<Mlp>> experts_, gate_mlps_;
  std::vector<std::unique_ptr<Linear>> gates_;
};

}  // namespace anneal::nn
