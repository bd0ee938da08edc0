// A few threads that sleep between steps. OpenMP's spin while waiting, and on a shared machine that collapses.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace anneal::embedding {

class WorkerPool {
 public:
  /// `threads` in all, the calling one included; 1 starts none.
  explicit WorkerPool(int threads);
  ~WorkerPool();

  int size() const { return static_cast<int>(threads_.size()) + 1; }
  /// Runs task(0) .. task(size() - 1), task(0) on the calling thread; returns when all are done.
  void Run(const std::function<void(int)>& task);

 private:
  void Loop(int index);

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int)>* task_ = nullptr;
  uint64_t round_ = 0;
  int running_ = 0;
  bool stop_ = false;
};

}  // namespace anneal::embedding
