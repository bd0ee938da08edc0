// The dense part of a step: forward pass, losses, backward pass.
//
// On a CUDA device, with ANNEAL_CUDA_GRAPHS=1, it is recorded once as a CUDA graph and from then on started as a whole:
// a hundred small kernels for the price of one launch. Batches of another size, like the last of an epoch, run as ever.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "worker/dist/device.h"
#include "worker/models/network.h"
#include "worker/nn/module.h"

namespace anneal::train {

class DensePass {
 public:
  /// Everything on the network's device.
  struct Input {
    at::Tensor pooled;        ///< [B, EmbeddingPlan::pooled_width] float32
    at::Tensor dense;         ///< [B, EmbeddingPlan::dense_width] float32
    models::Targets targets;  ///< of B rows
    at::Tensor scale;         ///< scalar float32 that the loss is multiplied by, or undefined
  };
  /// Valid until the next Run, as the parameters' .grad().
  struct Result {
    models::Predictions predictions;  ///< detached
    models::Losses losses;            ///< detached
    at::Tensor pooled_gradient;       ///< like pooled; undefined when the loss does not depend on it
  };

  /// The loss is divided by `accumulation`. `parameters`, which are kept by reference: whose gradients backward makes.
  DensePass(models::Network& network, const std::vector<nn::NamedTensor>& parameters, int64_t accumulation,
            at::Device device);

  /// Gradients are added to the parameters' .grad(), or become it; input.pooled becomes a leaf with one.
  /// `before_backward` is called unless a graph is started, which has no moment between its two halves.
  Result Run(const Input& input, const std::function<void()>& before_backward);

 private:
  Result Compute(const Input& input, const std::function<void()>& before_backward);
  void Record(const Input& input);
  void TakeGradients();

  models::Network& network_;
  const std::vector<nn::NamedTensor>& parameters_;
  const int64_t accumulation_;
  const bool records_;
  int64_t rows_ = -1, repeats_ = 0;  ///< size of the last batch, and how often it came again

  std::unique_ptr<dist::Graph> graph_;
  Input place_;                        ///< what the graph reads
  Result recorded_;                    ///< what it writes
  std::vector<at::Tensor> gradients_;  ///< likewise, per parameter
};

}  // namespace anneal::train
