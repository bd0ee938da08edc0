// Arrays of the host on their way to a device: through pinned memory and on a stream of their own, so that a batch
// travels while the device still computes the one before. On the CPU they stay where they are.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <optional>

namespace anneal::dist {

class DeviceCopy {
 public:
  explicit DeviceCopy(at::Device device);

  /// Memory to fill with `count` values. LibTorch's allocator of pinned memory gives it out again only after the copy
  /// that reads it is over.
  template <typename T>
  struct Staged {
    at::Tensor tensor;
    T* data = nullptr;
  };
  template <typename T>
  Staged<T> Stage(int64_t count) {
    Staged<T> staged{Allocate({count}, c10::CppTypeToScalarType<T>::value), nullptr};
    staged.data = staged.tensor.template data_ptr<T>();
    return staged;
  }

  /// The staged values on the device: [count]. Not to be used before Await.
  template <typename T>
  at::Tensor Send(const Staged<T>& staged) {
    return Send(staged.tensor);
  }
  /// A copy of a host tensor on the device, the tensor itself on the CPU. Not to be used before Await.
  at::Tensor Send(const at::Tensor& host);

  /// What the current stream does from now on waits for everything sent.
  void Await();

 private:
  at::Tensor Allocate(at::IntArrayRef sizes, at::ScalarType type) const;

  const at::Device device_;
  std::optional<c10::Stream> stream_;  ///< none on the CPU
  std::vector<at::Tensor> sent_;
};

}  // namespace anneal::dist
