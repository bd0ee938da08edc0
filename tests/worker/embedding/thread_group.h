// Ranks as threads of one process: collectives over shared memory, for tests of what is built on them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <barrier>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "worker/dist/process_group.h"

namespace anneal::tests {

struct SharedMemory {
  explicit SharedMemory(int ranks) : barrier(ranks), tensors(ranks), splits(ranks), numbers(ranks) {}
  std::barrier<> barrier;
  std::vector<at::Tensor> tensors;
  std::vector<std::vector<int64_t>> splits;
  std::vector<int64_t> numbers;
  std::unique_ptr<SharedMemory> beside;  ///< of the second group
};

class ThreadGroup : public dist::ProcessGroup {
 public:
  ThreadGroup(SharedMemory& memory, int rank, int local_world_size)
      : memory_(memory), rank_(rank), local_world_size_(local_world_size) {}

  int rank() const override { return rank_; }
  int world_size() const override { return static_cast<int>(memory_.tensors.size()); }
  int local_world_size() const override { return local_world_size_; }

  void AllReduceSum(at::Tensor tensor) override {
    Show(tensor, {});
    at::Tensor sum = at::empty_like(tensor).zero_();
    for (const auto& part : memory_.tensors) sum.add_(part);
    memory_.barrier.arrive_and_wait();
    tensor.copy_(sum);
    memory_.barrier.arrive_and_wait();
  }

  void Broadcast(at::Tensor tensor, int root) override {
    Show(tensor, {});
    if (rank_ != root) tensor.copy_(memory_.tensors[root]);
    memory_.barrier.arrive_and_wait();
  }

  void AllToAll(at::Tensor output, const at::Tensor& input, const std::vector<int64_t>& output_splits,
                const std::vector<int64_t>& input_splits) override {
    Show(input, input_splits);
    auto* out = static_cast<char*>(output.data_ptr());
    const size_t size = output.element_size();
    for (int r = 0; r < world_size(); ++r) {
      const auto& splits = memory_.splits[r];
      int64_t at = 0;
      for (int before = 0; before < rank_; ++before) at += splits[before];
      if (splits[rank_] != output_splits[r]) throw std::logic_error("all-to-all: the splits of two ranks differ");
      if (splits[rank_] == 0) continue;
      std::memcpy(out, static_cast<const char*>(memory_.tensors[r].const_data_ptr()) + at * size, splits[rank_] * size);
      out += splits[rank_] * size;
    }
    memory_.barrier.arrive_and_wait();
  }

  void Barrier() override { memory_.barrier.arrive_and_wait(); }

  std::unique_ptr<dist::ProcessGroup> Beside() override {
    if (!memory_.beside) return nullptr;
    return std::make_unique<ThreadGroup>(*memory_.beside, rank_, local_world_size_);
  }

  std::vector<int64_t> AllGather(int64_t value) override {
    memory_.numbers[rank_] = value;
    memory_.barrier.arrive_and_wait();
    const auto all = memory_.numbers;
    memory_.barrier.arrive_and_wait();
    return all;
  }

 private:
  void Show(const at::Tensor& tensor, const std::vector<int64_t>& splits) {
    memory_.tensors[rank_] = tensor;
    memory_.splits[rank_] = splits;
    memory_.barrier.arrive_and_wait();
  }

  SharedMemory& memory_;
  const int rank_, local_world_size_;
};

/// Runs `body` on every rank and waits for all.
inline void RunRanks(int ranks, int local_world_size, const std::function<void(dist::ProcessGroup&)>& body) {
  SharedMemory memory(ranks);
  if (ranks > 1) memory.beside = std::make_unique<SharedMemory>(ranks);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadGroup group(memory, rank, local_world_size);
      body(group);
    });
  }
}

}  // namespace anneal::tests
