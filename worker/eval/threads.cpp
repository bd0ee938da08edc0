#include "worker/eval/threads.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace anneal::eval {

int UseThreads(const dist::Topology& topology) {
  const char* asked = std::getenv("OMP_NUM_THREADS");
  int threads = asked && *asked ? std::atoi(asked) : 0;
  if (threads < 1) threads = static_cast<int>(std::thread::hardware_concurrency()) / topology.local_world_size;
  threads = std::max(threads, 1);
  at::set_num_threads(threads);
  return threads;
}

}  // namespace anneal::eval
