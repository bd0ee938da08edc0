#include "worker/eval/threads.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <algorithm>
#include <limits>

#include "worker/config/cpus.h"
#include "worker/config/environment.h"
#include "worker/eval/tensor_memory.h"

namespace anneal::eval {
namespace {

/// Of tensors, and of what else a step allocates anew each time: glibc's default hands it back to the kernel in
/// between.
void ReuseFreedMemory() {
#if !defined(__SANITIZE_ADDRESS__)  // which shall see what is used after its end
  c10::SetCPUAllocator(&TensorMemory::OfProcess());
#endif
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
}

}  // namespace

int UseThreads(const dist::Topology& topology) {
  ReuseFreedMemory();
  const int available = std::max(1, config::AvailableCpus() / topology.local_world_size);
  const int threads = config::EnvironmentInt("OMP_NUM_THREADS", available, 1, 1024);
  at::set_num_threads(threads);
  return threads;
}

void UseTf32Flags(const tzrec::protos::TrainConfig& config) {
  if (config.has_cudnn_allow_tf32()) at::globalContext().setAllowTF32CuDNN(config.cudnn_allow_tf32());
  if (config.has_cuda_matmul_allow_tf32()) at::globalContext().setAllowTF32CuBLAS(config.cuda_matmul_allow_tf32());
}

}  // namespace anneal::eval
