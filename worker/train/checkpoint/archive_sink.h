// Where LibTorch's archive writer writes to.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <utility>

namespace anneal::checkpoint {

/// PyTorchStreamWriter finishes its archive in its destructor when a write has failed, fails again and ends the process.
/// So nothing ever fails while it lives: after the first error the bytes are dropped, and Finish() tells of it.
class ArchiveSink {
 public:
  using Write = std::function<void(const void*, size_t)>;
  explicit ArchiveSink(Write write) : write_(std::move(write)) {}

  size_t operator()(const void* data, size_t size) {
    if (!error_) {
      try {
        write_(data, size);
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    return size;
  }
  /// Rethrows what `write` threw.
  void Finish() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  Write write_;
  std::exception_ptr error_;
};

}  // namespace anneal::checkpoint
