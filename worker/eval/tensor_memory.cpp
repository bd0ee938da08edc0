#include "worker/eval/tensor_memory.h"

#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>

namespace anneal::eval {
namespace {

constexpr size_t kLarge = size_t{1} << 20, kPage = 4096;

bool FromKernel(const void* at) { return reinterpret_cast<uintptr_t>(at) % kPage == 0; }

}  // namespace

TensorMemory& TensorMemory::OfProcess() {
  static auto* memory = new TensorMemory;  // tensors of static life outlive every destructor
  return *memory;
}

c10::DataPtr TensorMemory::allocate(size_t bytes) {
  void* at = bytes < kLarge ? c10::alloc_cpu(bytes) : Take(bytes);
  return {at, at, &Delete, at::Device(at::kCPU)};
}

c10::DeleterFnPtr TensorMemory::raw_deleter() const { return &Delete; }

size_t TensorMemory::live_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_;
}

size_t TensorMemory::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_ + waiting_bytes_;
}

void* TensorMemory::Take(size_t bytes) {
  size_t size = (bytes + kPage - 1) / kPage * kPage;
  void* at = nullptr;
  const std::lock_guard lock(mutex_);
  if (const auto found = waiting_.lower_bound(size); found != waiting_.end() && found->first <= size + size / 4) {
    size = found->first;
    at = found->second.at;
    waiting_bytes_ -= size;
    waiting_.erase(found);
  } else {
    const size_t most = std::max(most_live_, live_bytes_ + size);
    while (!waiting_.empty() && live_bytes_ + waiting_bytes_ + size > most + most / 4) {
      Drop(std::min_element(waiting_.begin(), waiting_.end(),
                            [](const auto& a, const auto& b) { return a.second.freed < b.second.freed; }));
    }
    at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK(at != MAP_FAILED, "no memory for a tensor of ", bytes, " bytes");
  }
  live_[at] = size;
  live_bytes_ += size;
  most_live_ = std::max(most_live_, live_bytes_);
  c10::reportMemoryUsageToProfiler(at, static_cast<int64_t>(size), live_bytes_, 0, at::Device(at::kCPU));
  return at;
}

void TensorMemory::Give(void* at) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(at);
  if (found == live_.end()) return c10::free_cpu(at);  // a small one at a page's begin
  const size_t size = found->second;
  live_.erase(found);
  live_bytes_ -= size;
  waiting_bytes_ += size;
  waiting_.emplace(size, Waiting{at, ++frees_});
  c10::reportMemoryUsageToProfiler(at, -static_cast<int64_t>(size), live_bytes_, 0, at::Device(at::kCPU));
}

void TensorMemory::Drop(std::multimap<size_t, Waiting>::iterator waiting) {
  ::munmap(waiting->second.at, waiting->first);
  waiting_bytes_ -= waiting->first;
  waiting_.erase(waiting);
}

void TensorMemory::Delete(void* at) {
  if (FromKernel(at)) {
    OfProcess().Give(at);
  } else {
    c10::free_cpu(at);
  }
}

}  // namespace anneal::eval
