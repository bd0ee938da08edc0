// Optimizers of dense parameters: torch.optim's SGD, Adagrad, Adam, AdamW, Adadelta and RMSprop with its formulas,
// order of rounding, state names and defaults (parity/train.md 12). `fused: true` of the config selects LibTorch's
// fused kernels, as in torch.optim; they round differently.
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
  /// One step with the gradients in .grad(); parameters without a gradient stay as they are. Gradients are left alone.
  virtual void Step(double learning_rate) = 0;
  /// State tensors as "<parameter>//<key>" with torch.optim's keys (step, exp_avg, exp_avg_sq, sum, momentum_buffer,
  /// square_avg, acc_delta); counters are float32 scalars.
  virtual std::vector<nn::NamedTensor> State() = 0;
  /// Base learning rate of the config: the start of the schedule.
  virtual double base_learning_rate() const = 0;

  const std::vector<nn::NamedTensor>& parameters() const { return parameters_; }

 protected:
  explicit DenseOptimizer(std::vector<nn::NamedTensor> parameters) : parameters_(std::move(parameters)) {}
  std::vector<nn::NamedTensor> parameters_;
};

/// The optimizer that the message's oneof names. Throws ConfigError naming `where` when it names none.
std::unique_ptr<DenseOptimizer> MakeDenseOptimizer(const tzrec::protos::DenseOptimizer& config,
                                                   std::vector<nn::NamedTensor> parameters);
std::unique_ptr<DenseOptimizer> MakeDenseOptimizer(const tzrec::protos::PartOptimizer& config,
                                                   std::vector<nn::NamedTensor> parameters, const std::string& where);

}  // namespace anneal::optim
