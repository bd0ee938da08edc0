// Large arrays of zeros that cost nothing where they are not written.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace anneal::embedding {

/// Fresh zero pages straight from the kernel. Throws std::bad_alloc.
template <typename T>
class ZeroPages {
 public:
  enum class Pages {
    kHuge,   ///< where the kernel has them: a random element of a large array is found without a miss in the TLB
    kSmall,  ///< where only few elements are written
  };

  explicit ZeroPages(int64_t count, Pages pages)
      : bytes_(sizeof(T) * static_cast<size_t>(std::max<int64_t>(count, 1))) {
    void* at = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    if (bytes_ >= kHugePage) ::madvise(at, bytes_, pages == Pages::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    data_ = static_cast<T*>(at);
  }
  ~ZeroPages() {
    if (data_) ::munmap(data_, bytes_);
  }
  ZeroPages(ZeroPages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  ZeroPages(const ZeroPages&) = delete;
  ZeroPages& operator=(const ZeroPages&) = delete;
  ZeroPages& operator=(ZeroPages&&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  T* data_;
  size_t bytes_;
};

}  // namespace anneal::embedding
