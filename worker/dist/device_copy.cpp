#include "worker/dist/device_copy.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace anneal::dist {

DeviceCopy::DeviceCopy(at::Device device) : device_(device) {
  if (!device.is_cpu()) {
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/true);
  }
}

at::Tensor DeviceCopy::Allocate(at::IntArrayRef sizes, at::ScalarType type) const {
  return at::empty(sizes, at::TensorOptions().dtype(type).pinned_memory(!device_.is_cpu()));
}

at::Tensor DeviceCopy::Send(const at::Tensor& host) {
  if (!stream_) return host;
  at::Tensor staged = host;
  if (!host.is_pinned()) {
    staged = Allocate(host.sizes(), host.scalar_type());
    staged.copy_(host);
  }
  const c10::StreamGuard guard(*stream_);
  sent_.push_back(staged.to(device_, /*non_blocking=*/true));
  return sent_.back();
}

void DeviceCopy::Await() {
  if (!stream_ || sent_.empty()) return;
  const c10::impl::VirtualGuardImpl guard(device_.type());
  const c10::Stream current = guard.getStream(device_);
  c10::Event done(device_.type());
  done.record(*stream_);
  done.block(current);
  for (at::Tensor& tensor : sent_) tensor.record_stream(current);
  sent_.clear();
}

}  // namespace anneal::dist
