// Optimizers of dense parameters: SGD, Adagrad, Adam, AdamW with torch.optim's formulas, state names and defaults.
// They run LibTorch's fused multi-tensor kernels, which exist for CPU and CUDA.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tzrec/optimizer.pb.h"
#include "worker/nn/module.h"

namespace anneal::optim {

class DenseOptimizer {
 public:
  virtual ~DenseOptimizer() = default;
  /// One step with the gradients in .grad(); parameters without a gradient stay as they are.
  virtual void Step(double learning_rate) = 0;
  /// State tensors as "<parameter>//<key>" with torch.optim's keys (step, exp_avg, exp_avg_sq, sum, momentum_buffer).
  virtual std::vector<nn::NamedTensor> State() = 0;
  /// Base learning rate of the config: the start of the schedule.
  virtual double base_learning_rate() const = 0;

  /// Drops all gradients (the next backward allocates them anew).
  void ZeroGradients();

 protected:
  explicit DenseOptimizer(std::vector<nn::NamedTensor> parameters) : parameters_(std::move(parameters)) {}
  std::vector<nn::NamedTensor> parameters_;
};

/// Throws ConfigError for an optimizer that is not supported yet.
std::unique_ptr<DenseOptimizer> MakeDenseOptimizer(const tzrec::protos::DenseOptimizer& config,
                                                   std::vector<nn::NamedTensor> parameters);

}  // namespace anneal::optim
