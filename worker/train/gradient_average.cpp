#include "worker/train/gradient_average.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace anneal::train {
namespace {

constexpr int64_t kBucketElements = 1 << 18;  // 1 MiB

}  // namespace

/// Called by autograd when a parameter's gradient of this backward is whole.
class GradientAverage::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientAverage& owner, size_t parameter) : owner_(owner), parameter_(parameter) {}
  void operator()(const torch::autograd::Variable&) override { owner_.OnGradient(parameter_); }

 private:
  GradientAverage& owner_;
  const size_t parameter_;
};

GradientAverage::GradientAverage(std::vector<nn::NamedTensor> parameters, dist::ProcessGroup& group, int64_t flags)
    : parameters_(std::move(parameters)), bucket_of_(parameters_.size()), flags_(flags), group_(group) {
  int64_t elements = kBucketElements;
  for (size_t i = parameters_.size(); i-- > 0;) {
    if (elements >= kBucketElements) {
      buckets_.emplace_back();
      elements = 0;
    }
    buckets_.back().parameters.push_back(i);
    bucket_of_[i] = buckets_.size() - 1;
    elements += parameters_[i].tensor.numel();
  }
  if (buckets_.empty()) buckets_.emplace_back();
  for (Bucket& bucket : buckets_) {
    int64_t size = &bucket == &buckets_.back() ? flags_ : 0;
    for (const size_t i : bucket.parameters) size += parameters_[i].tensor.numel();
    bucket.flat = at::zeros({size}, at::TensorOptions().device(group.device()));
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].tensor.is_leaf() || !parameters_[i].tensor.requires_grad()) continue;
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_[i].tensor, std::make_unique<Hook>(*this, i));
  }
}

GradientAverage::~GradientAverage() {
  for (auto& parameter : parameters_) {
    if (parameter.tensor.is_leaf() && parameter.tensor.requires_grad()) {
      torch::autograd::impl::set_post_acc_grad_hooks(parameter.tensor, nullptr);
    }
  }
}

void GradientAverage::Start() {
  for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters.size();
  started_ = true;
}

void GradientAverage::OnGradient(size_t parameter) {
  if (!started_) return;
  --buckets_[bucket_of_[parameter]].missing;
  while (next_ + 1 < buckets_.size() && buckets_[next_].missing == 0) Send(buckets_[next_]);
}

void GradientAverage::Send(Bucket& bucket) {
  const c10::AutoGradMode no_grad(false);
  int64_t at = 0;
  for (const size_t i : bucket.parameters) {
    const at::Tensor& tensor = parameters_[i].tensor;
    at::Tensor slot = bucket.flat.narrow(0, at, tensor.numel());
    if (tensor.grad().defined()) {
      slot.copy_(tensor.grad().reshape({-1}));
    } else {
      slot.zero_();
    }
    at += tensor.numel();
  }
  bucket.pending = group_.StartAllReduceSum(bucket.flat);
  ++next_;
}

void GradientAverage::SendRest(const std::vector<float>& flags) {
  started_ = false;
  Bucket& last = buckets_.back();
  last.flat.narrow(0, last.flat.numel() - flags_, flags_).copy_(at::tensor(flags));
  while (next_ < buckets_.size()) Send(buckets_[next_]);
}

std::vector<float> GradientAverage::Finish() {
  const c10::AutoGradMode no_grad(false);
  for (Bucket& bucket : buckets_) {
    bucket.pending->Wait();
    bucket.pending.reset();
    int64_t at = 0;
    for (const size_t i : bucket.parameters) {
      const at::Tensor& tensor = parameters_[i].tensor;
      tensor.mutable_grad() = bucket.flat.narrow(0, at, tensor.numel()).div_(group_.world_size()).view(tensor.sizes());
      at += tensor.numel();
    }
  }
  next_ = 0;
  const at::Tensor& last = buckets_.back().flat;
  const at::Tensor flags = last.narrow(0, last.numel() - flags_, flags_).to(at::kCPU);
  return {flags.const_data_ptr<float>(), flags.const_data_ptr<float>() + flags_};
}

}  // namespace anneal::train
