// The dense part of a step: forward pass, losses, backward pass.
//
// On a CUDA device, with ANNEAL_CUDA_GRAPHS=1, it is recorded once as a CUDA graph and from then on started as a whole:
// a hundred small kernels for the price of one launch. Batches of another size, like the last of an epoch, run as ever;
// so do models with sequences, whose batches have a longest one each, batches with sampled items, and losses whose
// weights are found anew in every step.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "worker/dist/device.h"
#include "worker/embedding/sharded_embedding.h"
#include "worker/models/network.h"
#include "worker/models/sequence_assembly.h"
#include "worker/nn/module.h"

namespace anneal::train {

class DensePass {
 public:
  /// Everything on the network's device, but what says otherwise.
  struct Input {
    embedding::LookedUp found;      ///< what the batch's ids stand for
    at::Tensor dense;               ///< [B, EmbeddingPlan::dense_width] float32
    models::SequenceLayout layout;  ///< of the batch's sequences; alive until the next Run
    models::Targets targets;        ///< of B rows
    at::Tensor scale;               ///< scalar float32 that the loss is multiplied by, or undefined
    std::shared_ptr<const models::RepeatedIds> repeated;  ///< models::NetworkInput's, as the next
    models::SampledItems sampled;
  };
  /// Valid until the next Run, as the parameters' .grad().
  struct Result {
    models::Predictions predictions;  ///< detached
    models::Losses losses;            ///< detached
    at::Tensor total;              ///< what was made small: their sum, with use_pareto_loss_weight weighted; detached
    embedding::LookedUp gradient;  ///< like found; undefined where the loss does not depend on it
  };

  /// The loss is divided by `accumulation`. `parameters`, which are kept by reference: whose gradients backward makes.
  DensePass(models::Network& network, const std::vector<nn::NamedTensor>& parameters, int64_t accumulation,
            at::Device device);

  /// Gradients are added to the parameters' .grad(), or become it; what was looked up becomes leaves with one.
  /// `before_backward` is called unless a graph is started, which has no moment between its two halves.
  Result Run(const Input& input, const std::function<void()>& before_backward);

 private:
  at::Tensor TotalOf(const models::Losses& losses) const;
  Result Compute(const Input& input, const std::function<void()>& before_backward);
  void Record(const Input& input);
  void TakeGradients();

  models::Network& network_;
  const std::vector<nn::NamedTensor>& parameters_;
  const int64_t accumulation_;
  const std::vector<double> least_weights_;  ///< Network::pareto_min_weights
  const bool records_;
  int64_t rows_ = -1, repeats_ = 0;  ///< size of the last batch, and how often it came again

  std::unique_ptr<dist::Graph> graph_;
  Input place_;                        ///< what the graph reads
  Result recorded_;                    ///< what it writes
  std::vector<at::Tensor> gradients_;  ///< likewise, per parameter
};

}  // namespace anneal::train
