// Where a process computes: the CPU, or its CUDA device. One program does both. What only CUDA has comes from
// libanneal_cuda.so beside it, which a CUDA build makes (worker/cuda), so that the program starts without a driver.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <memory>
#include <string>

#include "worker/dist/topology.h"

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace anneal::dist {

/// Work of a device that is recorded once and then started as a whole.
class Graph {
 public:
  virtual ~Graph() = default;
  /// Records what `work` starts on this process's device; runs none of it. Every Replay reads and writes the same
  /// memory: the caller keeps the tensors that work reads and makes. To be called once.
  virtual void Record(const std::function<void()>& work) = 0;
  virtual void Replay() = 0;
};

/// What libanneal_cuda.so gives.
class Accelerator {
 public:
  virtual ~Accelerator() = default;
  virtual int device_count() const = 0;
  virtual int64_t memory_bytes(int device) const = 0;  ///< in all
  virtual void Use(int device) const = 0;              ///< the current device of this thread
  virtual std::unique_ptr<Graph> MakeGraph() const = 0;
  /// Collectives of CUDA tensors.
  virtual c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>& store,
                                                     const Topology& topology) const = 0;
};

/// The function of that library, by this name: `const Accelerator* anneal_accelerator()`.
inline constexpr const char* kAcceleratorFunction = "anneal_accelerator";

/// Null in a CPU build, where the library cannot be loaded and where no device is visible: then `why`, when given, says
/// what is missing.
const Accelerator* FindAccelerator(std::string* why = nullptr);

/// The device of this process. ANNEAL_DEVICE=cpu | cuda | auto (the default: CUDA when there is a device). With CUDA it
/// is the one of the local rank. Throws ConfigError when CUDA is asked for and cannot be had, saying what is missing.
/// To be called before anything else of LibTorch: it loads the CUDA half of it.
at::Device ChooseDevice(const Topology& topology);

}  // namespace anneal::dist
