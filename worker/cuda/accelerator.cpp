// libanneal_cuda.so: CUDA devices, graphs and NCCL for a program that is linked to none of them (worker/dist/device.h).
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "worker/dist/device.h"

namespace anneal::dist {
namespace {

class CudaGraph : public Graph {
 public:
  void Record(const std::function<void()>& work) override {
    c10::cuda::device_synchronize();
    // What earlier steps freed would stay apart from the graph's memory, and while recording nothing is given back.
    c10::cuda::CUDACachingAllocator::emptyCache();
    const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool());
    // Other threads go on meanwhile, with copies of the next batch, say.
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    work();
    graph_.capture_end();
  }
  void Replay() override { graph_.replay(); }

 private:
  at::cuda::CUDAGraph graph_;
};

class Cuda : public Accelerator {
 public:
  int device_count() const override { return c10::cuda::device_count(); }

  int64_t memory_bytes(int device) const override {
    return static_cast<int64_t>(at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device))->totalGlobalMem);
  }

  void Use(int device) const override { c10::cuda::set_device(static_cast<c10::DeviceIndex>(device)); }

  std::unique_ptr<Graph> MakeGraph() const override { return std::make_unique<CudaGraph>(); }

  c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>& store,
                                             const Topology& topology) const override {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::duration_cast<std::chrono::milliseconds>(topology.timeout);
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, topology.rank, topology.world_size, options);
  }
};

}  // namespace
}  // namespace anneal::dist

extern "C" const anneal::dist::Accelerator* anneal_accelerator() {
  static const anneal::dist::Cuda cuda;
  return &cuda;
}
