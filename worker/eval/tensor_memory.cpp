#include "worker/eval/tensor_memory.h"

#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <tuple>

namespace anneal::eval {
namespace {

constexpr size_t kLarge = size_t{1} << 20, kPage = 4096;

}  // namespace

TensorMemory& TensorMemory::OfProcess() {
  static auto* memory = new TensorMemory;  // tensors of static life outlive every destructor
  return *memory;
}

// Addresses alone cost nothing, unless there is a limit on them (ulimit -v): then there is no range.
TensorMemory::TensorMemory() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return;
  const size_t memory = static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* at = ::mmap(nullptr, memory, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return;
  range_ = static_cast<char*>(at);
  range_bytes_ = memory;
}

c10::DataPtr TensorMemory::allocate(size_t bytes) {
  void* at = bytes < kLarge ? nullptr : Take(bytes);
  if (!at) at = c10::alloc_cpu(bytes);
  return {at, at, &Delete, at::Device(at::kCPU)};
}

c10::DeleterFnPtr TensorMemory::raw_deleter() const { return &Delete; }

size_t TensorMemory::live_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_;
}

size_t TensorMemory::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

/// Null when the range has no room, or the kernel no memory for it.
void* TensorMemory::Take(size_t bytes) {
  if (bytes > range_bytes_) return nullptr;
  const size_t size = (bytes + kPage - 1) / kPage * kPage;
  const std::lock_guard lock(mutex_);
  char* at = range_ + used_;
  auto gap = std::find_if(gaps_.begin(), gaps_.end(), [size](const auto& entry) { return entry.second >= size; });
  // The last gap can be made longer.
  if (gap == gaps_.end() && !gaps_.empty() && gaps_.rbegin()->first + gaps_.rbegin()->second == at)
    gap = std::prev(gap);
  size_t there = 0;
  if (gap != gaps_.end()) std::tie(at, there) = *gap;
  if (there < size) {
    if (size > range_bytes_ - static_cast<size_t>(at - range_)) return nullptr;
    const size_t fresh = size - there;
    if (::mprotect(range_ + used_, fresh, PROT_READ | PROT_WRITE) != 0) return nullptr;
    used_ += fresh;
  }
  if (gap != gaps_.end()) gaps_.erase(gap);
  if (there > size) gaps_.emplace(at + size, there - size);
  live_[at] = size;
  live_bytes_ += size;
  c10::reportMemoryUsageToProfiler(at, static_cast<int64_t>(size), live_bytes_, 0, at::Device(at::kCPU));
  return at;
}

void TensorMemory::Give(char* at) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(at);
  const size_t size = found->second;
  live_.erase(found);
  live_bytes_ -= size;
  auto gap = gaps_.emplace(at, size).first;
  if (const auto next = std::next(gap); next != gaps_.end() && at + size == next->first) {
    gap->second += next->second;
    gaps_.erase(next);
  }
  if (gap != gaps_.begin()) {
    if (const auto before = std::prev(gap); before->first + before->second == at) {
      before->second += gap->second;
      gaps_.erase(gap);
    }
  }
  c10::reportMemoryUsageToProfiler(at, -static_cast<int64_t>(size), live_bytes_, 0, at::Device(at::kCPU));
}

void TensorMemory::Delete(void* at) {
  TensorMemory& memory = OfProcess();
  if (memory.Owns(at)) {
    memory.Give(static_cast<char*>(at));
  } else {
    c10::free_cpu(at);
  }
}

}  // namespace anneal::eval
