// How many threads a process computes with.
#pragma once

#include "worker/dist/process_group.h"

namespace anneal::eval {

/// OMP_NUM_THREADS when set, else this machine's cores divided by the processes on it. Sets LibTorch's thread count
/// and returns the number.
int UseThreads(const dist::Topology& topology);

}  // namespace anneal::eval
