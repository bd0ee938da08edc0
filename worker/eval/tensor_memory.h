// Memory of large tensors on the CPU, used again from step to step.
#pragma once

#include <c10/core/Allocator.h>

#include <map>
#include <mutex>
#include <unordered_map>

namespace anneal::eval {

/// An allocator for LibTorch. Every step allocates the same large tensors: given back to the kernel in between, each of
/// their pages would be a fault; kept by malloc, small blocks that stay would part the large ones. Here they have a
/// range of addresses of their own: a tensor takes the first gap that it fits, and a freed one joins the gaps beside
/// it. The pages stay: the process holds about as much as its tensors needed at one time. Tensors of less than 1 MiB,
/// and any that the range has no room for, come from c10's allocator. For any number of threads.
class TensorMemory final : public c10::Allocator {
 public:
  /// Throws c10::Error when the kernel has no more.
  c10::DataPtr allocate(size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* dest, const void* src, size_t count) const override { default_copy_data(dest, src, count); }

  /// The process's own.
  static TensorMemory& OfProcess();

  size_t live_bytes() const;  ///< of the blocks in use
  size_t held_bytes() const;  ///< and of the gaps: what the range has been used up to

 private:
  TensorMemory();
  void* Take(size_t bytes);
  void Give(char* at);
  bool Owns(const void* at) const { return at >= range_ && at < range_ + range_bytes_; }
  static void Delete(void* at);

  char* range_ = nullptr;  ///< reserved addresses; accessible up to used_
  size_t range_bytes_ = 0;
  mutable std::mutex mutex_;
  size_t used_ = 0, live_bytes_ = 0;
  std::unordered_map<const char*, size_t> live_;  ///< size of each block in use
  std::map<char*, size_t> gaps_;                  ///< below used_, no two side by side
};

}  // namespace anneal::eval
