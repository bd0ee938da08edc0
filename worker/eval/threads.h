// How a process computes: its threads, and TF32 on CUDA.
#pragma once

#include "tzrec/train.pb.h"
#include "worker/dist/process_group.h"

namespace anneal::eval {

/// OMP_NUM_THREADS when set, else the CPUs that there are for this process (config/cpus.h) divided by the processes on
/// this machine. Sets LibTorch's thread count and returns the number.
int UseThreads(const dist::Topology& topology);

/// Applies cudnn_allow_tf32 and cuda_matmul_allow_tf32 when they are set (LibTorch's defaults hold otherwise). They
/// change nothing on a CPU.
void UseTf32Flags(const tzrec::protos::TrainConfig& config);

}  // namespace anneal::eval
