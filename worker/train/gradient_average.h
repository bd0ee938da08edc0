// Averages the dense gradients over ranks in buckets that travel while backward still runs.
//
// Backward has the gradients of the last layers first, so parameters are put into buckets in reverse order, and a
// bucket is sent as soon as its last gradient is there. Buckets go in one order on all ranks; a rank without rows,
// which has no backward, sends them all at its end.
#pragma once

#include <memory>
#include <vector>

#include "worker/dist/process_group.h"
#include "worker/nn/module.h"

namespace anneal::train {

class GradientAverage {
 public:
  /// `parameters` in the order of the forward pass. Of `flags` numbers the sums over ranks come along.
  GradientAverage(std::vector<nn::NamedTensor> parameters, dist::ProcessGroup& group, int64_t flags);
  ~GradientAverage();

  /// Before backward.
  void Start();
  /// After it, when all gradients are final: sends what has not gone yet.
  void SendRest(const std::vector<float>& flags);
  /// Waits. Every parameter's gradient is then the mean over ranks (an absent one counts as zeros); returns the sums of
  /// the flags.
  std::vector<float> Finish();

 private:
  class Hook;
  struct Bucket {
    std::vector<size_t> parameters;
    at::Tensor flat;     ///< their gradients side by side, float32
    size_t missing = 0;  ///< gradients that backward still owes
    std::unique_ptr<dist::Pending> pending;
  };
  void OnGradient(size_t parameter);
  void Send(Bucket& bucket);

  std::vector<nn::NamedTensor> parameters_;
  std::vector<size_t> bucket_of_;
  std::vector<Bucket> buckets_;  ///< the last also holds the flags, so it goes last
  size_t next_ = 0;              ///< to be sent
  bool started_ = false;
  const int64_t flags_;
  dist::ProcessGroup& group_;
};

}  // namespace anneal::train
