// One layer of progressive layered extraction. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task
// Learning (MTL) Model for Personalized Recommendations", RecSys 2020; parity/models.md 4.4.
#pragma once

#include <memory>
#include <vector>

#include "tzrec/module.pb.h"
#include "worker/nn/linear.h"
#include "worker/nn/mlp.h"

namespace anneal::nn {

/// Every task has experts of its own, and all share some. Task t's gate mixes its own experts with the shared ones, the
/// shared gate all of them. State names: _shared_layers.<j>, _task_layers.<t>.<j>, _task_gates.<t>, _shared_gate.
class ExtractionNet : public Module {
 public:
  /// What a layer hands to the next. In front of the first, all are the same vector.
  struct Vectors {
    std::vector<at::Tensor> tasks;  ///< one [B, width] per task
    at::Tensor shared;              ///< [B, width]; undefined after the last layer
  };

  /// The last network has no shared gate. Throws ConfigError when experts that a gate mixes have different widths.
  ExtractionNet(const tzrec::protos::ExtractionNetwork& config, int tasks, int64_t in, bool last);
  Vectors Forward(const Vectors& inputs);
  int64_t output_dim() const { return output_dim_; }

 private:
  int64_t output_dim_ = 0;
  std::vector<std::unique_ptr<Mlp>> shared_layers_;
  std::vector<std::vector<std::unique_ptr<Mlp>>> task_layers_;
  std::vector<std::unique_ptr<Linear>> task_gates_;
  std::unique_ptr<Linear> shared_gate_;
};

}  // namespace anneal::nn
