// Memory of large tensors on the CPU, used again from step to step.
#pragma once

#include <c10/core/Allocator.h>

#include <map>
#include <mutex>
#include <unordered_map>

namespace anneal::eval {

/// An allocator for LibTorch. Every step allocates the same large tensors: given back to the kernel in between, each of
/// their pages would be a fault; kept by malloc, tensors of different sizes leave gaps that none of them fits. Here a
/// freed block waits whole for a tensor of at most its size and at least four fifths of it. What waits is given back
/// to the kernel, the oldest first, when a new block would make all of them more than a quarter larger than the tensors
/// ever were at one time. Tensors of less than 1 MiB come from c10's allocator. For any number of threads.
class TensorMemory final : public c10::Allocator {
 public:
  /// Throws c10::Error when the kernel has no more.
  c10::DataPtr allocate(size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* dest, const void* src, size_t count) const override { default_copy_data(dest, src, count); }

  /// The process's own.
  static TensorMemory& OfProcess();

  size_t live_bytes() const;  ///< of the blocks in use
  size_t held_bytes() const;  ///< and of those that wait

 private:
  struct Waiting {
    void* at;
    uint64_t freed;
  };

  void* Take(size_t bytes);
  void Give(void* at);
  void Drop(std::multimap<size_t, Waiting>::iterator waiting);
  static void Delete(void* at);

  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> live_;  ///< size of each block in use
  std::multimap<size_t, Waiting> waiting_;  ///< by size
  size_t live_bytes_ = 0, waiting_bytes_ = 0, most_live_ = 0;
  uint64_t frees_ = 0;
};

}  // namespace anneal::eval
